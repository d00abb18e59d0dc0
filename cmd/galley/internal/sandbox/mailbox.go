package sandbox

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/galley-engine/galley/pkg/clock"
)

const (
	// maxMessages is how many messages the mailbox keeps, maxText how much of each text in them, in bytes.
	maxMessages = 200
	maxText     = 32 << 10
)

const mailboxNotice = "The mailbox of the galley sandbox: nothing of this was really sent to anybody."

// kind is how a message came.
type kind string

const (
	kindEmail   kind = "email"
	kindSMS     kind = "sms"
	kindWebhook kind = "webhook"
)

// message is something that came in.
type message struct {
	// Number counts from 1.
	Number   int       `json:"number"`
	Kind     kind      `json:"kind"`
	Received time.Time `json:"received"`
	From     string    `json:"from,omitempty"`
	// To are all who would get it, also those in blind copy.
	To      []string `json:"to,omitempty"`
	Subject string   `json:"subject,omitempty"`
	Text    string   `json:"text,omitempty"`
	HTML    string   `json:"html,omitempty"`
	// MessageID of an e-mail, sid of a text message, webhook-id of a webhook: the same when it is sent again.
	MessageID   string       `json:"message_id,omitempty"`
	Attachments []attachment `json:"attachments,omitempty"`
	// Hook is what came after /hooks/.
	Hook string `json:"hook,omitempty"`
	// Signature is that of a webhook that has the three headers of Standard Webhooks. It is not verified: nobody here knows the secret.
	Signature string `json:"signature,omitempty"`
}

type attachment struct {
	Name        string `json:"name"`
	ContentType string `json:"content_type"`
	// Size is in bytes, decoded.
	Size int64 `json:"size"`
}

// mailbox keeps the latest messages.
type mailbox struct {
	clock clock.Clock

	mu       sync.Mutex
	messages []message
	received int
}

// add keeps a message, numbered, and forgets the oldest when there are too many.
func (m *mailbox) add(in message) {
	in.Subject, in.Text, in.HTML, in.From = clip(in.Subject), clip(in.Text), clip(in.HTML), clip(in.From)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received++
	in.Number, in.Received = m.received, m.clock()
	if len(m.messages) == maxMessages {
		m.messages = slices.Delete(m.messages, 0, 1)
	}
	m.messages = append(m.messages, in)
}

// contents is what the mailbox shows.
type contents struct {
	Notice string `json:"notice"`
	// Received counts all messages since the start; Messages holds the latest of them, the newest first.
	Received int       `json:"received"`
	Messages []message `json:"messages"`
}

func (m *mailbox) contents() contents {
	m.mu.Lock()
	defer m.mu.Unlock()
	latest := append([]message{}, m.messages...)
	slices.Reverse(latest)
	return contents{Notice: mailboxNotice, Received: m.received, Messages: latest}
}

func (m *mailbox) serveJSON(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, m.contents())
}

// clip is text that is valid and not longer than is kept.
func clip(text string) string {
	if len(text) <= maxText {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	cut := maxText
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strings.ToValidUTF8(text[:cut], "\uFFFD") + " [cut off here]"
}
