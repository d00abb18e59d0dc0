package recipe_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// block is a fenced block of a Markdown file: what stands behind the opening fence, the line of that, and what is inside.
type block struct {
	info string
	line int
	text string
}

func blocks(markdown string) []block {
	var found []block
	inside := false
	for i, line := range strings.Split(markdown, "\n") {
		info, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && inside:
			inside = false
		case isFence:
			inside = true
			found = append(found, block{info: info, line: i + 1})
		case inside:
			found[len(found)-1].text += line + "\n"
		}
	}
	return found
}

// TestDocumentedRecipes says that the recipes of docs/recipes.md load, and that those marked as invalid fail as the text after
// them says.
func TestDocumentedRecipes(t *testing.T) {
	t.Parallel()
	markdown, err := os.ReadFile("../../docs/recipes.md")
	require.NoError(t, err)
	compiler := newCompiler(t)
	good, bad := 0, 0
	all := blocks(string(markdown))
	for i, b := range all {
		if !strings.HasPrefix(b.info, "yaml") || !strings.Contains(b.text, "kind: Recipe") {
			continue
		}
		place := fmt.Sprintf("docs/recipes.md:%d", b.line)
		_, err := compiler.Load([]byte(b.text))
		if b.info != "yaml invalid" {
			good++
			assert.NoError(t, err, place)
			continue
		}
		bad++
		require.Error(t, err, place)
		if i+1 < len(all) && all[i+1].info == "text" {
			assert.Equal(t, strings.TrimSpace(all[i+1].text), err.Error(), place)
		}
	}
	assert.Greater(t, good, 10)
	assert.Greater(t, bad, 3)
}
