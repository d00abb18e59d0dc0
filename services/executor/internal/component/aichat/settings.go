package aichat

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/aichat/internal/llm"
)

// Provider is whose models are asked.
type Provider string

const (
	// ProviderOpenAI is OpenAI.
	ProviderOpenAI Provider = "openai"
	// ProviderGroq is Groq.
	ProviderGroq Provider = "groq"
	// ProviderAnthropic is Anthropic.
	ProviderAnthropic Provider = "anthropic"
	// ProviderCompatible is any other server that speaks OpenAI's chat completions. It has no address of its own.
	ProviderCompatible Provider = "compatible"
)

// Settings are what the operator gives. The zero value gives nothing: recipes bring their own keys.
type Settings struct {
	// Keys are the operator's API keys. Each is sent to the provider's own address and to no other, also not to a base_url of a recipe.
	Keys map[Provider]string
	// Default is what steps use that name no provider.
	Default Default
}

// Default is a provider and model of the operator's; the zero value is none.
type Default struct {
	Provider Provider
	Model    string
	// BaseURL is the provider's own address when it is empty. One inside the network must be among the allowed hosts as well.
	BaseURL string
	// Key goes with BaseURL. Without a BaseURL, the one in Settings.Keys does when this is empty.
	Key string
}

// Validate joins everything that is wrong. Its error holds no key.
func (s Settings) Validate() error {
	var problems []error
	for provider, key := range s.Keys {
		switch {
		case provider.address() == "":
			problems = append(problems, fmt.Errorf("there is a key for %q: it has no address of its own", provider))
		case !isPrintable(key):
			problems = append(problems, fmt.Errorf("the key for %s is not one line of printable characters", provider))
		}
	}
	return errors.Join(append(problems, s.validateDefault())...)
}

func (s Settings) validateDefault() error {
	d := s.Default
	var problems []error
	refuse := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("default model: "+format, args...))
	}
	switch {
	case d == Default{}:
		return nil
	case !d.Provider.known():
		refuse("provider is %q: must be openai, groq, anthropic or compatible", d.Provider)
	case d.BaseURL == "" && d.Provider == ProviderCompatible:
		refuse("the provider compatible needs a base URL")
	case d.BaseURL == "" && d.Key == "" && s.Keys[d.Provider] == "":
		refuse("there is no key for %s", d.Provider)
	}
	if d.Model == "" {
		refuse("there is no model")
	}
	if d.BaseURL != "" && !isBaseURL(d.BaseURL) {
		refuse("the base URL is not http or https, or holds a user name, a query or a fragment")
	}
	if !isPrintable(d.Key) {
		refuse("the key is not one line of printable characters")
	}
	return errors.Join(problems...)
}

func (p Provider) known() bool { return p.address() != "" || p == ProviderCompatible }

// address is the provider's own.
func (p Provider) address() string {
	switch p {
	case ProviderOpenAI:
		return "https://api.openai.com/v1"
	case ProviderGroq:
		return "https://api.groq.com/openai/v1"
	case ProviderAnthropic:
		return "https://api.anthropic.com/v1"
	case ProviderCompatible:
	}
	return ""
}

func (p Provider) format() llm.Format {
	switch p {
	case ProviderOpenAI, ProviderGroq:
		return llm.FormatOpenAI
	case ProviderAnthropic:
		return llm.FormatAnthropic
	case ProviderCompatible:
	}
	return llm.FormatCompatible
}

// choice is who is asked.
type choice struct {
	provider Provider
	model    string
	endpoint llm.Endpoint
}

// choose says who is asked, and with whose key. Whoever writes a recipe may name any address: a key of the operator never goes to one that
// a recipe has named, whatever the provider is called.
func (s *Settings) choose(in *input) (*choice, error) {
	if in.Provider == "" {
		return s.chooseDefault(in)
	}
	c := &choice{provider: in.Provider, model: in.Model}
	c.endpoint = llm.Endpoint{Format: in.Provider.format(), BaseURL: in.BaseURL, Key: strings.TrimSpace(in.APIKey)}
	switch {
	case !in.Provider.known():
		return nil, component.Failure(problem.ComponentError, "provider must be openai, groq, anthropic or compatible")
	case in.Model == "":
		return nil, component.Failure(problem.ComponentError, "a provider needs a model")
	case !isPrintable(c.endpoint.Key) || c.endpoint.Key == "" && in.APIKey != "":
		return nil, component.Failure(problem.ComponentError, "api_key is not one line of printable characters")
	}
	if in.BaseURL != "" {
		if !isBaseURL(in.BaseURL) {
			return nil, component.Failure(problem.ComponentError,
				"base_url is not an address such as https://models.example.com/v1, without user name, query and fragment")
		}
		return c, nil
	}
	c.endpoint.BaseURL = in.Provider.address()
	c.endpoint.Key = cmp.Or(c.endpoint.Key, s.Keys[in.Provider])
	switch {
	case c.endpoint.BaseURL == "":
		return nil, component.Failure(problem.ComponentError, "the provider compatible needs a base_url")
	case c.endpoint.Key == "":
		return nil, component.Failure(problem.ComponentError, "the operator has no key for %s: give an api_key", in.Provider)
	}
	return c, nil
}

func (s *Settings) chooseDefault(in *input) (*choice, error) {
	d := s.Default
	switch {
	case in.BaseURL != "" || in.APIKey != "":
		return nil, component.Failure(problem.ComponentError, "base_url and api_key need a provider")
	case d.Provider == "":
		return nil, component.Failure(problem.ComponentError, "the operator has chosen no model: give provider and model")
	}
	endpoint := llm.Endpoint{Format: d.Provider.format(), BaseURL: d.BaseURL, Key: d.Key}
	if d.BaseURL == "" {
		endpoint.BaseURL, endpoint.Key = d.Provider.address(), cmp.Or(d.Key, s.Keys[d.Provider])
	}
	return &choice{provider: d.Provider, model: cmp.Or(in.Model, d.Model), endpoint: endpoint}, nil
}

func isBaseURL(text string) bool {
	parsed, err := url.Parse(text)
	return err == nil && (parsed.Scheme == "http" || parsed.Scheme == "https") && parsed.Hostname() != "" && parsed.User == nil &&
		!strings.ContainsAny(text, "?#")
}

// isPrintable tells whether a key can stand in a header.
func isPrintable(key string) bool {
	return !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' })
}
