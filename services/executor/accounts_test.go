package executor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/config"
	"github.com/galley-engine/galley/services/executor/internal/component/aichat"
)

func TestTheModelOfTheOperator(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ []string
		want    aichat.Default
	}{
		"none":           {nil, aichat.Default{}},
		"by its key":     {[]string{"OPENAI_API_KEY=k"}, aichat.Default{Provider: "openai", Model: "gpt-4o-mini"}},
		"the first":      {[]string{"ANTHROPIC_API_KEY=k", "GROQ_API_KEY=k"}, aichat.Default{Provider: "groq", Model: "llama-3.3-70b-versatile"}},
		"by name":        {[]string{"GROQ_API_KEY=k", "ANTHROPIC_API_KEY=k", "GALLEY_AI_PROVIDER=anthropic"}, aichat.Default{Provider: "anthropic", Model: "claude-haiku-4-5"}},
		"with its model": {[]string{"GROQ_API_KEY=k", "GALLEY_AI_MODEL=other"}, aichat.Default{Provider: "groq", Model: "other"}},
		"at its address": {
			[]string{"GALLEY_AI_PROVIDER=compatible", "GALLEY_AI_MODEL=m", "GALLEY_AI_BASE_URL=http://127.0.0.1:1/v1", "OPENAI_API_KEY=k"},
			aichat.Default{Provider: "compatible", Model: "m", BaseURL: "http://127.0.0.1:1/v1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var settings Config
			require.NoError(t, config.Load(&settings, test.environ))
			assert.Equal(t, test.want, settings.ai().Default)
			assert.Equal(t, test.want.Provider != "", settings.HasModel())
		})
	}
	for _, wrong := range [][]string{
		{"GALLEY_AI_PROVIDER=openai"},
		{"GALLEY_AI_PROVIDER=skynet", "GALLEY_AI_MODEL=m"},
		{"GALLEY_AI_MODEL=m"},
		{"GALLEY_SMTP_URL=http://example.com", "GALLEY_MAIL_FROM=a@example.com"},
		{"GALLEY_SMTP_URL=smtp://example.com"},
		{"GALLEY_TWILIO_ACCOUNT_SID=AC1"},
		{"GALLEY_AI_MODELS=m"},
	} {
		var settings Config
		assert.Error(t, config.Load(&settings, wrong), "%v", wrong)
	}
}
