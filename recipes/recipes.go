// Package recipes holds the example recipes of this directory, for the programs that publish them.
package recipes

import _ "embed"

//go:embed discovery.yaml
var discovery []byte

// Discovery is the recipe that "galley up" publishes and runs once when it starts for the first time.
func Discovery() []byte { return discovery }
