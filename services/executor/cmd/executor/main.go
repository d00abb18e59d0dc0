// Command executor runs the executor as a process of its own.
package main

import (
	"os"

	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/services/executor"
)

func main() {
	os.Exit(process.Main("executor", func(config executor.Config, deps process.Deps) (process.Service, error) {
		return executor.New(config, deps)
	}))
}
