package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	leaderTimeout = 5 * time.Second

	codeNoMessage jetstream.ErrorCode = 10037
)

// StoredRequest asks for a stored message: the last one of LastBySubject, the first one of NextBySubject from Sequence on, or the one at
// Sequence.
type StoredRequest struct {
	LastBySubject string `json:"last_by_subj,omitempty"`
	Sequence      uint64 `json:"seq,omitempty"`
	NextBySubject string `json:"next_by_subj,omitempty"`
}

// Stored reads a message through its stream's leader, for at most five seconds: a direct get, which the client makes where a stream allows
// it, may be served by a replica that lags behind. The error is jetstream.ErrMsgNotFound where there is no such message.
func Stored(ctx context.Context, conn *nats.Conn, stream string, wanted StoredRequest) (*jetstream.RawStreamMsg, error) {
	request, err := json.Marshal(wanted)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	message, err := conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, request)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	var reply struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(message.Data, &reply); err != nil {
		return nil, fmt.Errorf("decode a message of %s: %w", stream, err)
	}
	switch {
	case reply.Error != nil && reply.Error.ErrorCode == codeNoMessage:
		return nil, jetstream.ErrMsgNotFound
	case reply.Error != nil:
		return nil, fmt.Errorf("read %s: %w", stream, reply.Error)
	}
	stored := &jetstream.RawStreamMsg{
		Subject: reply.Message.Subject, Sequence: reply.Message.Sequence, Data: reply.Message.Data, Time: reply.Message.Time,
	}
	if len(reply.Message.Header) > 0 {
		if stored.Header, err = nats.DecodeHeadersMsg(reply.Message.Header); err != nil {
			return nil, fmt.Errorf("decode a message of %s: %w", stream, err)
		}
	}
	return stored, nil
}
