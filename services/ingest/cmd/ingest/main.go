// Command ingest runs galley's ingest service as a process of its own, configured by environment variables.
package main

import (
	"os"
	_ "time/tzdata" // schedules need time zones where the machine has none

	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/services/ingest"
)

func main() {
	os.Exit(process.Main("ingest", func(config ingest.Config, deps process.Deps) (process.Service, error) {
		return ingest.New(config, deps)
	}))
}
