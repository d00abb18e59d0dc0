package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/galley-engine/galley/schemas/event"
)

// Watch follows an execution until it has ended, and gives its response. tell gets the JSON of what its steps tell meanwhile.
func (c *Client) Watch(ctx context.Context, id string, tell func(progress []byte)) (response event.Response, err error) {
	stream, err := c.send(ctx, request{method: http.MethodGet, path: ofExecution(id, "/progress")})
	if err != nil {
		return response, err
	}
	defer func() { err = errors.Join(err, stream.Body.Close()) }()
	if stream.StatusCode >= http.StatusBadRequest {
		answer, err := io.ReadAll(io.LimitReader(stream.Body, maxBody))
		return response, errors.Join(err, refusal(stream, answer))
	}
	lines := bufio.NewScanner(stream.Body)
	lines.Buffer(nil, maxBody)
	name := ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case field == "event":
			name = value
		case field == "data" && name == "completed":
			if err := json.Unmarshal([]byte(value), &response); err != nil {
				return response, fmt.Errorf("decode the response of %s: %w", id, err)
			}
			return response, nil
		case field == "data":
			tell([]byte(value))
		}
	}
	return response, errors.Join(fmt.Errorf("the watch of %s broke off", id), lines.Err())
}
