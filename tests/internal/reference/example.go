package reference

import (
	"encoding/json"
	"errors"

	"go.yaml.in/yaml/v3"
)

// head is what the pages have to know of an example.
type head struct {
	Metadata struct {
		Agent string `yaml:"agent"`
		ID    string `yaml:"id"`
	} `yaml:"metadata"`
	Spec struct {
		Input struct {
			Examples []map[string]any `yaml:"examples"`
		} `yaml:"input"`
	} `yaml:"spec"`
}

// example is a recipe that uses a kind, with an input to run it with.
type example struct {
	Text   string
	Recipe string
	Input  string
}

func readExample(text []byte) (example, error) {
	var h head
	if err := yaml.Unmarshal(text, &h); err != nil {
		return example{}, err
	}
	if len(h.Spec.Input.Examples) == 0 {
		return example{}, errors.New("its input schema needs examples, of which the first one is the input")
	}
	input, err := json.Marshal(h.Spec.Input.Examples[0])
	return example{Text: string(text), Recipe: h.Metadata.Agent + " " + h.Metadata.ID, Input: string(input)}, err
}
