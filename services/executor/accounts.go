package executor

import (
	"cmp"
	"fmt"

	"github.com/galley-engine/galley/services/executor/internal/component/aichat"
	"github.com/galley-engine/galley/services/executor/internal/component/email"
	"github.com/galley-engine/galley/services/executor/internal/component/sms"
)

// Accounts are those of the operator, for steps that bring none of their own. Whoever may publish a recipe may use them: what a step
// costs is the recipe's to say.
type Accounts struct {
	AIProvider string `name:"ai-provider" env:"GALLEY_AI_PROVIDER" help:"Provider of steps that name none: openai, groq, anthropic or compatible; without it, one whose key is set." placeholder:"NAME"`
	AIModel    string `name:"ai-model"    env:"GALLEY_AI_MODEL"    help:"Model of steps that name none."                                                                         placeholder:"NAME"`
	AIBaseURL  string `name:"ai-base-url" env:"GALLEY_AI_BASE_URL" help:"Where the interface of that provider begins, when it is not its own address."                           placeholder:"URL"`
	AIKey      string `name:"ai-api-key"  env:"GALLEY_AI_API_KEY"  help:"Key for that address; better as a variable than on the command line."                                   placeholder:"KEY"`

	GroqKey      string `name:"groq-api-key"      env:"GROQ_API_KEY"      help:"Key for Groq."      placeholder:"KEY"`
	OpenAIKey    string `name:"openai-api-key"    env:"OPENAI_API_KEY"    help:"Key for OpenAI."    placeholder:"KEY"`
	AnthropicKey string `name:"anthropic-api-key" env:"ANTHROPIC_API_KEY" help:"Key for Anthropic." placeholder:"KEY"`

	SMTPURL  string `name:"smtp-url"  env:"GALLEY_SMTP_URL"  help:"Mail server of steps that name none: smtp://user:password@host:port or smtps://..." placeholder:"URL"`
	MailFrom string `name:"mail-from" env:"GALLEY_MAIL_FROM" help:"Sender of mail through it."                                                         placeholder:"ADDRESS"`

	TwilioAccountSID string `name:"twilio-account-sid" env:"GALLEY_TWILIO_ACCOUNT_SID" help:"Twilio account of steps that bring none."                              placeholder:"SID"`
	TwilioAuthToken  string `name:"twilio-auth-token"  env:"GALLEY_TWILIO_AUTH_TOKEN"  help:"Its token."                                                            placeholder:"TOKEN"`
	TwilioFrom       string `name:"twilio-from"        env:"GALLEY_TWILIO_FROM"        help:"Sender of text messages through it: a number or a messaging service."  placeholder:"SENDER"`
	TwilioBaseURL    string `name:"twilio-base-url"    env:"GALLEY_TWILIO_BASE_URL"    help:"Where its interface begins, when that is not Twilio's own address."    placeholder:"URL"`
}

// HasModel tells whether there is a language model for steps that name none.
func (a *Accounts) HasModel() bool { return a.ai().Default.Provider != "" }

// problems are what is wrong.
func (a *Accounts) problems() []error {
	var problems []error
	for _, part := range []struct {
		name string
		err  error
	}{{"AI", a.ai().Validate()}, {"SMTP", a.mail().Validate()}, {"TWILIO", a.twilio().Validate()}} {
		if part.err != nil {
			problems = append(problems, fmt.Errorf("GALLEY_%s_…: %w", part.name, part.err))
		}
	}
	return problems
}

// ai takes the first provider that has a key when none is named, with a model of its that is cheap and quick.
func (a *Accounts) ai() aichat.Settings {
	settings := aichat.Settings{Keys: map[aichat.Provider]string{}}
	provider, model := aichat.Provider(a.AIProvider), ""
	for _, known := range []struct {
		provider   aichat.Provider
		key, model string
	}{
		{aichat.ProviderGroq, a.GroqKey, "llama-3.3-70b-versatile"},
		{aichat.ProviderOpenAI, a.OpenAIKey, "gpt-4o-mini"},
		{aichat.ProviderAnthropic, a.AnthropicKey, "claude-haiku-4-5"},
	} {
		if known.key != "" {
			settings.Keys[known.provider] = known.key
			provider = cmp.Or(provider, known.provider)
		}
		if provider == known.provider {
			model = cmp.Or(model, known.model)
		}
	}
	if provider != "" || a.AIModel != "" || a.AIBaseURL != "" || a.AIKey != "" {
		settings.Default = aichat.Default{Provider: provider, Model: cmp.Or(a.AIModel, model), BaseURL: a.AIBaseURL, Key: a.AIKey}
	}
	return settings
}

func (a *Accounts) mail() email.Settings {
	return email.Settings{Server: a.SMTPURL, From: a.MailFrom}
}

func (a *Accounts) twilio() sms.Settings {
	return sms.Settings{AccountSID: a.TwilioAccountSID, AuthToken: a.TwilioAuthToken, From: a.TwilioFrom, BaseURL: a.TwilioBaseURL}
}
