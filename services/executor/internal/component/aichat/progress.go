package aichat

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	// interval is the least time between two messages, except for those that are full.
	interval = 50 * time.Millisecond
	// maxPiece is the most text of a message, in bytes. As JSON, it may be six times as long.
	maxPiece = 32 << 10
)

// progress publishes a text while it is written; nil publishes nothing.
type progress struct {
	publish func(subject string, data []byte)
	clock   clock.Clock
	public  func(text string) string
	subject string
	update  update
	pending strings.Builder
	last    time.Time
}

// update is a message: more of the text, or that it is done. The texts of an attempt with the sequences from 1 are the whole of it; a
// later attempt begins again.
type update struct {
	Step     string `json:"step"`
	Item     *int   `json:"item,omitempty"`
	Attempt  int    `json:"attempt"`
	Sequence int    `json:"sequence"`
	Text     string `json:"text,omitempty"`
	Done     bool   `json:"done,omitempty"`
}

func newProgress(publish func(string, []byte), now clock.Clock, call *component.Call) *progress {
	return &progress{
		publish: publish, clock: now, public: call.Public, subject: call.Execution.Progress(call.Place()),
		update: update{Step: call.Step, Item: call.Item, Attempt: call.Attempt},
	}
}

// add takes more text. It is published at once, or with what follows.
func (p *progress) add(text string) {
	p.pending.WriteString(text)
	if now := p.clock(); now.Sub(p.last) >= interval || p.pending.Len() >= maxPiece {
		p.last = now
		p.flush()
	}
}

// end publishes what is left, and that it is all.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.flush()
	p.update.Done = true
	p.send("")
}

func (p *progress) flush() {
	text := p.public(p.pending.String()) // the model knows no secret, but the server knows its key
	p.pending.Reset()
	for text != "" {
		piece := prefix(text, maxPiece)
		text = text[len(piece):]
		p.send(piece)
	}
}

func (p *progress) send(text string) {
	p.update.Sequence++
	p.update.Text = text
	if data, err := json.Marshal(p.update); err == nil {
		p.publish(p.subject, data)
	}
}
