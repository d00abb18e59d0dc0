// Package sms runs correspondence.sms: one text message through Twilio, or a service with its interface.
//
// The operator's token goes to the operator's service and to no address that a recipe names: a recipe that names one brings an account of
// its own, and only such a recipe chooses the sender.
package sms

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	// twilio is where the service is unless somebody says otherwise.
	twilio = "https://api.twilio.com"
	// maxAnswer is the most that is read of an answer.
	maxAnswer = 64 << 10
	// messagingService begins the names of messaging services, which send from a pool of numbers.
	messagingService = "MG"
)

// Settings are the operator's account, for recipes that name none.
type Settings struct {
	// AccountSID and AuthToken are empty when there is none.
	AccountSID, AuthToken string
	// From is the number that messages come from, or a messaging service.
	From string
	// BaseURL is where the interface begins; Twilio's unless given.
	BaseURL string
}

// Validate joins everything that is wrong, without showing the token.
func (s Settings) Validate() error {
	var problems []error
	if given := s.AccountSID != ""; given != (s.AuthToken != "") || given != (s.From != "") {
		problems = append(problems, errors.New("account, token and sender of text messages come together"))
	}
	if s.BaseURL != "" && !isBase(s.BaseURL) {
		problems = append(problems, errors.New("the address of the service for text messages is not a URL such as https://api.twilio.com"))
	}
	return errors.Join(problems...)
}

// Component is correspondence.sms.
type Component struct {
	network  *outbound.Network
	operator account
}

// account is who sends a message, and through what.
type account struct {
	sid, token, from, base string
}

// New makes the component. An error says which setting is wrong.
func New(settings Settings, network *outbound.Network) (*Component, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	return &Component{network: network, operator: account{
		sid: settings.AccountSID, token: settings.AuthToken, from: settings.From, base: cmp.Or(settings.BaseURL, twilio),
	}}, nil
}

type input struct {
	To         string `json:"to"`
	Text       string `json:"text"`
	From       string `json:"from"`
	AccountSID string `json:"account_sid"`
	AuthToken  string `json:"auth_token"`
	BaseURL    string `json:"base_url"`
}

// Execute sends the message.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	with, err := component.Input[input](call)
	if err != nil {
		return component.Result{}, err
	}
	from, err := c.choose(&with)
	if err != nil {
		return component.Result{}, err
	}
	request, err := newRequest(ctx, from, &with)
	if err != nil {
		return component.Result{}, err
	}
	response, err := c.network.Do(call.Outbound(), request)
	if err != nil {
		return component.Result{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := outbound.ReadBody(response, maxAnswer)
	if refused := c.refusal(response, body); refused != nil {
		return component.Result{}, refused // also when the body did not come to its end
	}
	if err != nil {
		return component.Result{}, err
	}
	return decode(response, body)
}

// choose finds the account: all of it is the operator's, or none.
func (c *Component) choose(with *input) (account, error) {
	if with.AccountSID != "" && with.AuthToken != "" && with.From != "" {
		return account{with.AccountSID, with.AuthToken, with.From, cmp.Or(with.BaseURL, twilio)}, nil
	}
	switch {
	case with.AccountSID != "" || with.AuthToken != "" || with.From != "" || with.BaseURL != "":
		return account{}, component.Failure(problem.ComponentError, "account_sid, auth_token and from come together, and base_url only with them")
	case c.operator.sid == "":
		return account{}, component.Failure(problem.ComponentError,
			"the operator of galley has no account for text messages: give one with account_sid, auth_token and from")
	}
	return c.operator, nil
}

func newRequest(ctx context.Context, from account, with *input) (*http.Request, error) {
	if !isBase(from.base) {
		return nil, component.Failure(problem.ComponentError, "base_url is not an address such as https://api.twilio.com")
	}
	form := url.Values{"To": {with.To}, "Body": {with.Text}}
	if strings.HasPrefix(from.from, messagingService) {
		form.Set("MessagingServiceSid", from.from)
	} else {
		form.Set("From", from.from)
	}
	target := strings.TrimRight(from.base, "/") + "/2010-04-01/Accounts/" + url.PathEscape(from.sid) + "/Messages.json"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "base_url is not an address such as https://api.twilio.com")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.SetBasicAuth(from.sid, from.token)
	return request, nil
}

// isBase tells whether a path can be put after the address.
func isBase(base string) bool {
	parsed, err := url.Parse(base)
	return err == nil && (parsed.Scheme == "https" || parsed.Scheme == "http") && parsed.Hostname() != "" && parsed.User == nil &&
		parsed.RawQuery == "" && !parsed.ForceQuery && parsed.Fragment == ""
}

// refusal adds the service's own number to what a status says; its text may repeat the message, and is not told.
func (c *Component) refusal(response *http.Response, body []byte) error {
	err := c.network.Refusal(response)
	failed, ok := errors.AsType[*problem.Error](err)
	var answer struct {
		Code int `json:"code"`
	}
	if ok && json.Unmarshal(body, &answer) == nil && answer.Code > 0 {
		failed.Message += ", code " + strconv.Itoa(answer.Code)
	}
	return err
}

func decode(response *http.Response, body []byte) (component.Result, error) {
	var answer struct {
		SID      string `json:"sid"`
		Status   string `json:"status"`
		Segments string `json:"num_segments"`
	}
	// A redirect makes a GET of a POST, and sends nothing.
	sent := response.Request.Method == http.MethodPost && response.StatusCode < http.StatusMultipleChoices
	if !sent || json.Unmarshal(body, &answer) != nil || answer.SID == "" || answer.Status == "" {
		return component.Result{}, component.Failure(problem.ComponentError, "the answer is not that of a service for text messages")
	}
	segments, err := strconv.ParseUint(answer.Segments, 10, 16)
	if err != nil || segments == 0 {
		segments = 1 // a messaging service counts them later
	}
	return component.Result{Output: map[string]any{"sid": answer.SID, "status": answer.Status, "segments": float64(segments)}}, nil
}
