package aichat

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/services/executor/internal/component/aichat/internal/llm"
)

// The providers' own addresses cannot be called by a test: this looks at who would be called, with which key.
func TestChoose(t *testing.T) {
	t.Parallel()
	settings := Settings{
		Keys:    map[Provider]string{ProviderOpenAI: "o", ProviderGroq: "g", ProviderAnthropic: "a"},
		Default: Default{Provider: ProviderGroq, Model: "llama"},
	}
	const openAI, groq, anthropic = "https://api.openai.com/v1", "https://api.groq.com/openai/v1", "https://api.anthropic.com/v1"
	for name, test := range map[string]struct {
		in       input
		provider Provider
		model    string
		endpoint llm.Endpoint
	}{
		"OpenAI": {
			input{Provider: ProviderOpenAI, Model: "m"},
			ProviderOpenAI, "m",
			llm.Endpoint{Format: llm.FormatOpenAI, BaseURL: openAI, Key: "o"},
		},
		"Groq": {
			input{Provider: ProviderGroq, Model: "m"},
			ProviderGroq, "m",
			llm.Endpoint{Format: llm.FormatOpenAI, BaseURL: groq, Key: "g"},
		},
		"Anthropic": {
			input{Provider: ProviderAnthropic, Model: "m"},
			ProviderAnthropic, "m",
			llm.Endpoint{Format: llm.FormatAnthropic, BaseURL: anthropic, Key: "a"},
		},
		"own key": {
			input{Provider: ProviderOpenAI, Model: "m", APIKey: "mine"},
			ProviderOpenAI, "m",
			llm.Endpoint{Format: llm.FormatOpenAI, BaseURL: openAI, Key: "mine"},
		},
		"the default": {
			input{},
			ProviderGroq, "llama",
			llm.Endpoint{Format: llm.FormatOpenAI, BaseURL: groq, Key: "g"},
		},
		"own address": {
			input{Provider: ProviderOpenAI, Model: "m", BaseURL: "https://x"},
			ProviderOpenAI, "m",
			llm.Endpoint{Format: llm.FormatOpenAI, BaseURL: "https://x"},
		},
		"the same one": {
			input{Provider: ProviderOpenAI, Model: "m", BaseURL: openAI},
			ProviderOpenAI, "m",
			llm.Endpoint{Format: llm.FormatOpenAI, BaseURL: openAI},
		},
	} {
		got, err := settings.choose(&test.in)
		require.NoError(t, err, name)
		assert.Equal(t, &choice{test.provider, test.model, test.endpoint}, got, name)
	}
}

// Whatever a recipe says, a key of the operator goes to the address that it is for.
func TestKeysGoWhereTheyBelong(t *testing.T) {
	t.Parallel()
	provider := rapid.SampledFrom([]Provider{"", ProviderOpenAI, ProviderGroq, ProviderAnthropic, ProviderCompatible, "other"})
	address := rapid.SampledFrom([]string{
		"", "https://evil.example.com", "https://api.openai.com/v1", "https://api.openai.com@evil.example.com", "http://house/v1", "//x", " ",
	})
	rapid.Check(t, func(t *rapid.T) {
		settings := Settings{Keys: map[Provider]string{ProviderOpenAI: "key-o", ProviderGroq: "key-g", ProviderAnthropic: "key-a"}}
		belongs := map[string]string{
			"key-o": ProviderOpenAI.address(), "key-g": ProviderGroq.address(), "key-a": ProviderAnthropic.address(), "key-d": "http://house/v1",
		}
		if rapid.Bool().Draw(t, "default") {
			settings.Default = Default{Provider: ProviderCompatible, Model: "m", BaseURL: "http://house/v1", Key: "key-d"}
		}
		in := input{
			Provider: provider.Draw(t, "provider"), Model: rapid.SampledFrom([]string{"", "m"}).Draw(t, "model"),
			BaseURL: address.Draw(t, "base_url"), APIKey: rapid.SampledFrom([]string{"", " ", "mine"}).Draw(t, "api_key"),
		}
		got, err := settings.choose(&in)
		if err != nil {
			return
		}
		if where, isOperators := belongs[got.endpoint.Key]; isOperators {
			require.Equal(t, where, got.endpoint.BaseURL)
			require.Empty(t, in.BaseURL)
		}
	})
}
