// Package recipes holds the example recipes of this directory, for the programs that publish them.
package recipes

import "embed"

//go:embed *.yaml
var files embed.FS

// Example is one of the recipes.
type Example struct {
	// Agent owns the recipe ID.
	Agent, ID string
	Document  []byte
}

// Discovery is the recipe that "galley up" publishes and runs once when it starts for the first time.
func Discovery() []byte { return read("discovery.yaml") }

// Examples are all recipes; "galley up" publishes them for the demo customer.
func Examples() []Example {
	return []Example{
		{Agent: "the-hunter", ID: "discovery", Document: Discovery()},
		{Agent: "the-hunter", ID: "outreach", Document: read("outreach.yaml")},
		{Agent: "the-clerk", ID: "extraction", Document: read("extraction.yaml")},
		{Agent: "the-analyst", ID: "report", Document: read("report.yaml")},
	}
}

// read gives an embedded file: the compiler has made sure of the pattern, a test of the names.
func read(name string) []byte {
	document, err := files.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return document
}
