package contract_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/galley-engine/galley/pkg/recipe"
	generated "github.com/galley-engine/galley/tests/internal/reference"
)

// TestReferenceIsUpToDate says that somebody who changed the description of a component has run make docs.
func TestReferenceIsUpToDate(t *testing.T) {
	t.Parallel()
	files, err := generated.Generate(root(t))
	require.NoError(t, err)
	for path, want := range files {
		got, err := os.ReadFile(filepath.Join(root(t), path))
		require.NoError(t, err, "run make docs")
		require.Equal(t, string(want), string(got), "%s is out of date: run make docs", path)
	}
	stale, err := generated.Stale(root(t), files)
	require.NoError(t, err)
	require.Empty(t, stale, "there is no such kind (any longer)")
}

// TestExamplesOfTheComponents says that each example is a recipe that uses its kind, and that its input fits.
func TestExamplesOfTheComponents(t *testing.T) {
	t.Parallel()
	compiler, err := recipe.NewCompiler()
	require.NoError(t, err)
	schemas := load(t)
	for _, c := range compiler.Components() {
		t.Run(string(c.Kind), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join(root(t), "docs", "components", string(c.Kind)+".yaml"))
			require.NoError(t, err)
			compiled, err := compiler.Load(text)
			require.NoError(t, err)
			assert.Equal(t, "examples", compiled.Agent)
			assert.Equal(t, strings.ReplaceAll(string(c.Kind), ".", "-"), compiled.ID)
			assert.NotEmpty(t, compiled.Description)
			uses := false
			for _, step := range compiled.Steps {
				uses = uses || step.Kind == c.Kind || c.Kind == recipe.KindWorker && step.Kind.Worker() != ""
			}
			assert.True(t, uses, "the example does not use the kind")
			document := map[string]any{}
			require.NoError(t, yaml.Unmarshal(text, &document))
			asJSON, err := json.Marshal(document)
			require.NoError(t, err)
			require.NoError(t, schemas.CheckData("recipe", asJSON), "the schema for editors")
			assert.NoError(t, compiled.ValidateInput(exampleInput(t, text)))
		})
	}
}

// exampleInput is the input that an example names.
func exampleInput(t *testing.T, text []byte) any {
	t.Helper()
	var document struct {
		Spec struct {
			Input struct {
				Examples []any `yaml:"examples"`
			} `yaml:"input"`
		} `yaml:"spec"`
	}
	require.NoError(t, yaml.Unmarshal(text, &document))
	require.NotEmpty(t, document.Spec.Input.Examples)
	return document.Spec.Input.Examples[0]
}

// TestComponentOfTheDocs compiles the component that docs/components.md shows, as if it were where the page says.
func TestComponentOfTheDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root(t), "docs", "components.md"))
	require.NoError(t, err)
	block := func(language string) string {
		found := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(page)
		require.NotNil(t, found, language)
		return string(found[1])
	}
	code := block("go")
	assert.LessOrEqual(t, strings.Count(code, "\n"), 30, "a component takes less than 30 lines")
	dir := t.TempDir()
	replaced := map[string]string{}
	for path, text := range map[string]string{
		"services/executor/internal/component/textwords/textwords.go": code,
		"pkg/recipe/component/text.words.json":                        block("json"),
	} {
		file := filepath.Join(dir, filepath.Base(path))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		replaced[filepath.Join(root(t), filepath.FromSlash(path))] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	command := exec.CommandContext(t.Context(), "go", "build", "-overlay", file, "./services/executor/internal/component/textwords")
	command.Dir = root(t)
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// TestLinksOfTheDocs follows the links of the documentation to files of the repository and to headings in them.
func TestLinksOfTheDocs(t *testing.T) {
	t.Parallel()
	pages := []string{filepath.Join(root(t), "README.md")}
	require.NoError(t, filepath.WalkDir(filepath.Join(root(t), "docs"), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	}))
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range link.FindAllStringSubmatch(prose(string(text)), -1) {
			if strings.Contains(found[1], "://") || strings.HasPrefix(found[1], "mailto:") {
				continue
			}
			path, fragment, _ := strings.Cut(found[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			_, err := os.Stat(target)
			if assert.NoError(t, err, "%s links to %s", page, found[1]) && fragment != "" {
				linked, err := os.ReadFile(target)
				require.NoError(t, err)
				assert.Contains(t, anchors(string(linked)), fragment, "%s links to %s", page, found[1])
			}
		}
	}
}

// prose leaves out the code of a page.
func prose(markdown string) string {
	return regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(markdown, "")
}

// anchors are the names by which links reach the headings of a page.
func anchors(markdown string) []string {
	var names []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(markdown, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
