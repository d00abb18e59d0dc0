package aichat_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/executor/internal/component/aichat"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]aichat.Settings{
		"nothing":  {},
		"all keys": {Keys: map[aichat.Provider]string{"openai": "sk-hush", "groq": "gsk-hush", "anthropic": ""}},
		"a default with a key of the list": {
			Keys: map[aichat.Provider]string{"groq": "gsk-hush"}, Default: aichat.Default{Provider: "groq", Model: "llama"},
		},
		"a default with its own key": {Default: aichat.Default{Provider: "openai", Model: "m", Key: "sk-hush"}},
		"a server in the house":      {Default: aichat.Default{Provider: "compatible", Model: "m", BaseURL: "http://127.0.0.1:11434/v1"}},
	} {
		require.NoError(t, good.Validate(), name)
	}
	for want, bad := range map[string]aichat.Settings{
		`a key for "compatible"`: {Keys: map[aichat.Provider]string{"compatible": "sk-hush"}},
		`a key for "grok"`:       {Keys: map[aichat.Provider]string{"grok": "sk-hush"}},
		"key for groq is not":    {Keys: map[aichat.Provider]string{"groq": "gsk-hush\n"}},
		"no model":               {Default: aichat.Default{Provider: "openai", Key: "sk-hush"}},
		"needs a base URL":       {Default: aichat.Default{Provider: "compatible", Model: "m"}},
		"no key for openai":      {Default: aichat.Default{Provider: "openai", Model: "m"}},
		`provider is "grok"`:     {Default: aichat.Default{Provider: "grok", Model: "m"}},
		`provider is ""`:         {Default: aichat.Default{Model: "m"}},
		"base URL is not http":   {Default: aichat.Default{Provider: "compatible", Model: "m", BaseURL: "https://hush@example.com"}},
		"default model: the key": {Default: aichat.Default{Provider: "openai", Model: "m", Key: "sk\thush"}},
	} {
		err := bad.Validate()
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "hush")
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		input with
		model string
	}{
		"all of it":     {with{"prompt": "Say hello"}, "house-model"},
		"another model": {with{"prompt": "Say hello", "model": "other"}, "other"},
	} {
		m := serve(t, answerJSON(ollamaAnswer))
		c := newComponent(t, options{allowed: []string{m.address}, settings: aichat.Settings{
			Keys:    map[aichat.Provider]string{"openai": "sk-other"},
			Default: aichat.Default{Provider: "compatible", Model: "house-model", BaseURL: m.url + "/v1/", Key: "sk-house"},
		}})
		output, _, err := run(t, c, newCall(test.input))
		require.NoError(t, err, name)
		assert.Equal(t, "compatible", output["provider"])
		request := m.requests()[0]
		assert.Equal(t, test.model, request.body["model"])
		assert.Equal(t, "/v1/chat/completions", request.path)
		assert.Equal(t, "Bearer sk-house", request.header.Get("Authorization"))
	}
}

// A key of the operator never goes to an address that a recipe names, whoever's it is called, also not when it is the operator's own.
func TestOperatorKeysStay(t *testing.T) {
	t.Parallel()
	m := serve(t, answerJSON(openAIAnswer), answerJSON(openAIAnswer), answerJSON(anthropicAnswer), answerJSON(openAIAnswer))
	c := newComponent(t, options{allowed: []string{m.address}, settings: aichat.Settings{
		Keys:    map[aichat.Provider]string{"openai": "sk-operator", "groq": "sk-operator", "anthropic": "sk-operator"},
		Default: aichat.Default{Provider: "compatible", Model: "m", BaseURL: m.url, Key: "sk-operator"},
	}})
	for _, provider := range []string{"openai", "groq", "anthropic", "compatible"} {
		_, _, err := run(t, c, newCall(with{"prompt": "x", "provider": provider, "model": "m", "base_url": m.url}))
		require.NoError(t, err)
	}
	require.Len(t, m.requests(), 4)
	for _, request := range m.requests() {
		for _, value := range flat(request.header) {
			assert.NotContains(t, value, "sk-operator")
		}
	}
}
