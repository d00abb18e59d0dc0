package reference

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/galley-engine/galley/pkg/recipe"
)

// component is a kind with its description as it was written: pkg/recipe does not keep the order of the fields.
type component struct {
	*recipe.Component
	with, output *object
	example      example
}

// readComponents reads all kinds of the repository, in the order of the pages: by name.
func readComponents(root string) ([]*component, error) {
	compiler, err := recipe.NewCompiler()
	if err != nil {
		return nil, err
	}
	var components []*component
	for _, described := range compiler.Components() {
		c, err := readComponent(root, described)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", described.Kind, err)
		}
		components = append(components, c)
	}
	return components, nil
}

func readComponent(root string, described *recipe.Component) (*component, error) {
	text, err := os.ReadFile(filepath.Join(root, "pkg", "recipe", "component", string(described.Kind)+".json"))
	if err != nil {
		return nil, err
	}
	c := &component{Component: described}
	if c.with, err = parseObject(text); err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	c.output = c.with.object("x-galley").object("output")
	c.with.fields = slices.DeleteFunc(c.with.fields, func(f field) bool { return f.name == "x-galley" })
	if text, err = os.ReadFile(filepath.Join(root, pages, string(c.Kind)+".yaml")); err != nil {
		return nil, fmt.Errorf("there is no example: %w", err)
	}
	if c.example, err = readExample(text); err != nil {
		return nil, fmt.Errorf("read the example: %w", err)
	}
	return c, nil
}
