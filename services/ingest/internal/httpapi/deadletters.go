package httpapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
)

func (a *API) registerDeadLetters(routes huma.API) {
	const path = prefix + "/dead-letters"
	tags := []string{"dead letters"}
	register(a, routes, huma.Operation{
		OperationID: "list-dead-letters", Method: http.MethodGet, Path: path, Tags: tags,
		Summary:     "List messages that could not be processed, newest first (operator)",
		Description: "Without their headers and data. They are kept for 90 days.",
	}, nil, a.listDeadLetters)
	register(a, routes, huma.Operation{
		OperationID: "get-dead-letter", Method: http.MethodGet, Path: path + "/{sequence}", Tags: tags,
		Summary: "Get a dead letter (operator)",
	}, nil, a.getDeadLetter)
	register(a, routes, huma.Operation{
		OperationID: "redrive-dead-letter", Method: http.MethodPost, Path: path + "/{sequence}/redrive", Tags: tags,
		Summary:       "Have a dead letter processed again (operator)",
		Description:   "By the consumer that gave it up. The letter is removed; if it fails again, it comes back as another one.",
		DefaultStatus: http.StatusAccepted,
	}, nil, a.redriveDeadLetter)
	register(a, routes, huma.Operation{
		OperationID: "discard-dead-letter", Method: http.MethodDelete, Path: path + "/{sequence}", Tags: tags,
		Summary: "Remove a dead letter for good (operator)", DefaultStatus: http.StatusNoContent,
	}, nil, a.discardDeadLetter)
}

// DeadLetter is a message that could not be processed.
type DeadLetter struct {
	Sequence uint64    `json:"sequence" doc:"Names the dead letter"`
	Reason   string    `json:"reason"`
	Stream   string    `json:"stream" doc:"Where the message was"`
	Subject  string    `json:"subject"`
	Original uint64    `json:"original_sequence,omitempty" doc:"Its sequence in the stream"`
	Consumer string    `json:"consumer,omitempty" doc:"Who gave it up"`
	DiedAt   time.Time `json:"died_at"`
	Size     int       `json:"size" doc:"The length of the data in bytes"`
	// Headers, Encoding and Data are left out of lists.
	Headers  map[string][]string `json:"headers,omitempty" doc:"The headers of the message and those of the dead letter, galley-dead-*"`
	Encoding string              `json:"encoding,omitempty" enum:"text,base64"`
	Data     string              `json:"data,omitempty"`
}

func summaryOf(letter *bus.Letter) DeadLetter {
	original, _ := strconv.ParseUint(letter.Header.Get(bus.HeaderSequence), 10, 64) // 0 where it is not known
	return DeadLetter{
		Sequence: letter.Sequence, Reason: letter.Header.Get(bus.HeaderReason), Stream: letter.Header.Get(bus.HeaderStream),
		Subject: letter.Header.Get(bus.HeaderSubject), Original: original, Consumer: letter.Header.Get(bus.HeaderConsumer),
		DiedAt: letter.Died, Size: len(letter.Data),
	}
}

type listDeadLettersInput struct{ Paging }

func (a *API) listDeadLetters(ctx context.Context, caller *caller, input *listDeadLettersInput) (*listOutput[DeadLetter], error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	before, err := cursor[uint64](&input.Paging)
	if err != nil {
		return nil, err
	}
	if before == nil {
		before = new(uint64)
	}
	letters, more, err := a.deadLetters.List(ctx, *before, input.Limit)
	if err != nil {
		return nil, err
	}
	items := make([]DeadLetter, len(letters))
	for i := range letters {
		items[i] = summaryOf(&letters[i])
	}
	var next *uint64
	if more {
		next = &items[len(items)-1].Sequence
	}
	return page(items, next)
}

type deadLetterInput struct {
	Sequence uint64 `path:"sequence" minimum:"1"`
}

type deadLetterOutput struct{ Body DeadLetter }

func (a *API) getDeadLetter(ctx context.Context, caller *caller, input *deadLetterInput) (*deadLetterOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	letter, err := a.deadLetters.Get(ctx, input.Sequence)
	if err != nil {
		return nil, err
	}
	out := &deadLetterOutput{Body: summaryOf(&letter)}
	out.Body.Headers, out.Body.Encoding, out.Body.Data = letter.Header, "text", string(letter.Data)
	if !utf8.Valid(letter.Data) || strings.ContainsRune(out.Body.Data, 0) {
		out.Body.Encoding, out.Body.Data = "base64", base64.StdEncoding.EncodeToString(letter.Data)
	}
	return out, nil
}

func (a *API) redriveDeadLetter(ctx context.Context, caller *caller, input *deadLetterInput) (*struct{}, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	return nil, a.deadLetters.Redrive(ctx, input.Sequence, requestOf(ctx).author())
}

func (a *API) discardDeadLetter(ctx context.Context, caller *caller, input *deadLetterInput) (*struct{}, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	return nil, a.deadLetters.Discard(ctx, input.Sequence, requestOf(ctx).author())
}
