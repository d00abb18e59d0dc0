package cli

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/recipe"
)

type recipeGroup struct {
	Check   recipeCheckCommand   `cmd:"" help:"Check a recipe without running anything."`
	Publish recipePublishCommand `cmd:"" help:"Publish a recipe."`
}

type recipeCheckCommand struct {
	File string `arg:"" help:"The recipe, YAML or JSON." type:"existingfile"`
}

// Run prints what is wrong with a recipe, one place a line, as a compiler does.
func (c *recipeCheckCommand) Run(app *app) error {
	document, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("read recipe: %w", err)
	}
	compiler, err := recipe.NewCompiler()
	if err != nil {
		return fmt.Errorf("make the compiler: %w", err)
	}
	compiled, err := compiler.Load(document)
	if problems, found := errors.AsType[recipe.Problems](err); found {
		for _, p := range problems {
			fmt.Fprintln(app.Out, place(c.File, p.Line, p.Column, p.Path+" "+p.Message))
		}
		return mistakes(len(problems))
	}
	if err != nil {
		return fmt.Errorf("check recipe: %w", err)
	}
	app.report.Line("%s/%s is fine: %d steps, at most %s credits", compiled.Agent, compiled.ID, len(compiled.Steps), compiled.Quote())
	return nil
}

// place is what a compiler would say about one place of a file.
func place(file string, line, column int, message string) string {
	return fmt.Sprintf("%s:%d:%d: %s", file, max(line, 1), max(column, 1), strings.ReplaceAll(message, "\n", " "))
}

func mistakes(n int) error {
	if n == 1 {
		return errors.New("the recipe has a mistake")
	}
	return fmt.Errorf("the recipe has %d mistakes", n)
}

type recipePublishCommand struct {
	connection
	File string `arg:"" help:"The recipe, YAML or JSON." type:"existingfile"`
}

// Run publishes a recipe; what is wrong with it is printed as by the check.
func (c *recipePublishCommand) Run(app *app) error {
	document, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("read recipe: %w", err)
	}
	api, err := c.customer()
	if err != nil {
		return err
	}
	defer api.Close()
	version, err := api.PublishRecipe(app.ctx, document)
	var refused *client.Error
	if errors.As(err, &refused) && len(refused.Errors) > 0 {
		for _, p := range refused.Errors {
			fmt.Fprintln(app.Out, place(c.File, p.Line, p.Column, p.Path+" "+p.Message))
		}
		return mistakes(len(refused.Errors))
	}
	if err != nil {
		return err
	}
	app.report.Line("%s/%s version %d", version.AgentID, version.RecipeID, version.Version)
	return nil
}

type versionCommand struct{}

// Run prints the version of the module, as the Go command stamped it.
func (versionCommand) Run(app *app) error {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version + " " + info.GoVersion
	}
	app.report.Line("galley %s", version)
	return nil
}
