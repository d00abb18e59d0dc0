// Command audit runs the audit service as a process of its own, configured by environment variables.
package main

import (
	"os"

	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/services/audit"
)

func main() {
	os.Exit(process.Main("audit", func(config audit.Config, deps process.Deps) (process.Service, error) {
		return audit.New(config, deps)
	}))
}
