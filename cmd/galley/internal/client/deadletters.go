package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// DeadLetter is a message that could not be processed.
type DeadLetter struct {
	Sequence uint64    `json:"sequence"`
	Reason   string    `json:"reason"`
	Stream   string    `json:"stream"`
	Subject  string    `json:"subject"`
	Original uint64    `json:"original_sequence"`
	Consumer string    `json:"consumer"`
	DiedAt   time.Time `json:"died_at"`
	Size     int       `json:"size"`
	// Headers, Encoding ("text" or "base64") and Data are left out of lists.
	Headers  map[string][]string `json:"headers"`
	Encoding string              `json:"encoding"`
	Data     string              `json:"data"`
}

// DeadLetters lists the newest dead letters and tells whether there are more (operator).
func (c *Client) DeadLetters(ctx context.Context, limit int) (items []DeadLetter, more bool, err error) {
	found, err := list[DeadLetter](ctx, c, "/dead-letters", "", limit)
	return found.Items, found.Next != "", err
}

// DeadLetter gets a dead letter (operator).
func (c *Client) DeadLetter(ctx context.Context, sequence uint64) (DeadLetter, error) {
	return call[DeadLetter](ctx, c, request{method: http.MethodGet, path: deadLetterPath(sequence)})
}

// Redrive has a dead letter processed again (operator).
func (c *Client) Redrive(ctx context.Context, sequence uint64) error {
	_, err := c.do(ctx, request{method: http.MethodPost, path: deadLetterPath(sequence) + "/redrive"})
	return err
}

// Discard removes a dead letter for good (operator).
func (c *Client) Discard(ctx context.Context, sequence uint64) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: deadLetterPath(sequence)})
	return err
}

func deadLetterPath(sequence uint64) string {
	return api + "/dead-letters/" + strconv.FormatUint(sequence, 10)
}
