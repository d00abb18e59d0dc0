package email

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/mail"
	"slices"
	"strings"
	"unicode"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const maxRecipients = 50

// input is what the author wrote, filled in.
type input struct {
	To          addressTexts `json:"to"`
	CC          addressTexts `json:"cc"`
	BCC         addressTexts `json:"bcc"`
	ReplyTo     string       `json:"reply_to"`
	From        string       `json:"from"`
	FromName    string       `json:"from_name"`
	Subject     string       `json:"subject"`
	Text        *string      `json:"text"`
	HTML        *string      `json:"html"`
	Attachments []attachment `json:"attachments"`
	Server      *serverInput `json:"server"`
}

type serverInput struct {
	Host     string     `json:"host"`
	Port     int        `json:"port"`
	TLS      encryption `json:"tls"`
	Username string     `json:"username"`
	Password string     `json:"password"`
}

// attachment is a stored file, or a text.
type attachment struct {
	File *struct {
		ID string `json:"file"`
	} `json:"file"`
	Name        string `json:"name"`
	Content     string `json:"content"`
	ContentType string `json:"content_type"`
}

// addressTexts is one address or a list of them.
type addressTexts []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *addressTexts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = addressTexts{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// server is the server that the recipe names.
func (in *input) server() (*server, error) {
	from, err := in.address("from", in.From)
	if err != nil {
		return nil, err
	}
	named := &server{
		host: strings.Trim(in.Server.Host, "[]"), port: in.Server.Port, encryption: cmp.Or(in.Server.TLS, startTLS),
		username: in.Server.Username, password: in.Server.Password, from: from,
	}
	named.port = cmp.Or(named.port, named.encryption.defaultPort())
	return named, nil
}

// letter checks what makes the mail. The sender is the owner's of the server, with the name that the author wants.
func (in *input) letter(from *mail.Address) (*letter, error) {
	l := &letter{from: *from, subject: oneLine(in.Subject), text: in.Text, html: in.HTML, attachments: in.Attachments}
	if hasControl(in.Subject) || l.subject == "" {
		return nil, component.Failure(problem.ComponentError, "subject is not one line of text")
	}
	if in.FromName != "" {
		if hasControl(in.FromName) {
			return nil, component.Failure(problem.ComponentError, "from_name is not one line of text")
		}
		l.from.Name = oneLine(in.FromName)
	}
	for _, list := range []struct {
		field string
		texts addressTexts
		into  *[]*mail.Address
	}{{"to", in.To, &l.to}, {"cc", in.CC, &l.cc}, {"bcc", in.BCC, &l.bcc}} {
		for _, text := range list.texts {
			address, err := in.address(list.field, text)
			if err != nil {
				return nil, err
			}
			*list.into = append(*list.into, address)
		}
	}
	switch count := len(l.to) + len(l.cc) + len(l.bcc); {
	case len(l.to) == 0:
		return nil, component.Failure(problem.ComponentError, "to holds no address")
	case count > maxRecipients:
		return nil, component.Failure(problem.ComponentError, "to, cc and bcc hold %d addresses, which is more than %d", count, maxRecipients)
	case l.text == nil && l.html == nil:
		return nil, component.Failure(problem.ComponentError, "there is neither text nor html")
	}
	if in.ReplyTo != "" {
		var err error
		if l.replyTo, err = in.address("reply_to", in.ReplyTo); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (in *input) address(field, text string) (*mail.Address, error) {
	address, err := parseAddress(text)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "%s holds something that is not an e-mail address: %s", field, err)
	}
	return address, nil
}

// parseAddress reads an address such as ada@example.com or Ada <ada@example.com>. Only plain ASCII addresses pass, so that what goes into
// a command for the mail server is one address and nothing else. The error does not repeat the text.
func parseAddress(text string) (*mail.Address, error) {
	if hasControl(text) {
		return nil, errors.New("it has control characters")
	}
	address, err := mail.ParseAddress(text)
	if err != nil {
		return nil, errors.New("it does not read like ada@example.com or Ada <ada@example.com>")
	}
	local, domain, _ := strings.Cut(address.Address, "@")
	const maxLocal, maxDomain, maxLabel = 64, 253, 63
	labels := strings.Split(domain, ".")
	badLabel := func(label string) bool {
		return label == "" || len(label) > maxLabel || label[0] == '-' || strings.ContainsFunc(label, func(r rune) bool {
			return !isAlphanumeric(r) && r != '-'
		})
	}
	badAtom := func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune(".!#$%&'*+/=?^_`{|}~-", r) }
	if len(local) > maxLocal || len(domain) > maxDomain || strings.ContainsFunc(local, badAtom) || slices.ContainsFunc(labels, badLabel) {
		return nil, errors.New("an address is at most 64 plain characters, @, and the name of a host")
	}
	if hasControl(address.Name) { // it was encoded
		return nil, errors.New("it has control characters")
	}
	address.Name = oneLine(address.Name)
	return address, nil
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func hasControl(text string) bool { return strings.ContainsFunc(text, unicode.IsControl) }

// oneLine keeps one space between words: headers are folded at spaces, and a line with nothing else ends them for some readers.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
