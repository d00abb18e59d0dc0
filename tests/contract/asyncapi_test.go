package contract_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/galley-engine/galley/tests/internal/contract"
)

type reference struct {
	Ref string `yaml:"$ref"`
}

// asyncAPI is the part of the document that has to agree with other files.
type asyncAPI struct {
	AsyncAPI string `yaml:"asyncapi"`
	Channels map[string]struct {
		Address    string               `yaml:"address"`
		Parameters map[string]yaml.Node `yaml:"parameters"`
		Messages   map[string]reference `yaml:"messages"`
	} `yaml:"channels"`
	Operations map[string]struct {
		Action  string    `yaml:"action"`
		Channel reference `yaml:"channel"`
	} `yaml:"operations"`
	Components struct {
		Messages map[string]struct {
			Name    string    `yaml:"name"`
			Headers reference `yaml:"headers"`
			Payload reference `yaml:"payload"`
		} `yaml:"messages"`
	} `yaml:"components"`
}

// TestAsyncAPI: each event is on one channel, whose address fits the subject of the golden file, with the schema that the golden
// file is checked against.
func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root(t), "schemas", "asyncapi.yaml"))
	require.NoError(t, err)
	var document asyncAPI
	require.NoError(t, yaml.Unmarshal(text, &document))
	require.Equal(t, "3.0.0", document.AsyncAPI)
	require.Len(t, document.Operations, len(document.Channels))
	for name, operation := range document.Operations {
		_, found := document.Channels[strings.TrimPrefix(operation.Channel.Ref, "#/channels/")]
		assert.True(t, found, name)
	}
	seen := map[string]bool{}
	parameter := regexp.MustCompile(`\{(\w+)\}`)
	for name, channel := range document.Channels {
		for _, match := range parameter.FindAllStringSubmatch(channel.Address, -1) {
			assert.Contains(t, channel.Parameters, match[1], name)
		}
		pattern := "^" + parameter.ReplaceAllString(strings.ReplaceAll(channel.Address, ".", `\.`), `[^.]+`) + "$"
		for _, link := range channel.Messages {
			id := strings.TrimPrefix(link.Ref, "#/components/messages/")
			message, found := document.Components.Messages[id]
			require.True(t, found, link.Ref)
			file := strings.ReplaceAll(id, "runRequest", "run-request")
			kind, known := events()[file]
			require.True(t, known, file)
			seen[file] = true
			_, golden := readGolden(t, file)
			assert.Regexp(t, pattern, golden.Subject)
			assert.Equal(t, golden.Headers["ce-type"], message.Name)
			assert.Equal(t, "./json/"+kind.schema+".schema.json", message.Payload.Ref)
			assert.Equal(t, "./json/"+contract.Headers+".schema.json", message.Headers.Ref)
		}
	}
	require.Len(t, seen, len(events()), "every event is on a channel")
}
