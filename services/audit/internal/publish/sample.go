package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

// sampled is how many of the published heads are compared with the log. Each of them holds all that was in the log then.
const sampled = 100

// Sample gives the newest published head, the oldest that is kept, and some between, as they were signed.
func (n *NATS) Sample(ctx context.Context) ([]string, error) {
	stream, err := n.bus.JS.Stream(ctx, subject.StreamTreeHeads)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", subject.StreamTreeHeads, err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return nil, nil
	}
	var notes []string
	step := max(1, (state.LastSeq-state.FirstSeq)/sampled)
	for sequence := state.LastSeq; sequence >= state.FirstSeq; {
		message, err := stream.GetMsg(ctx, sequence)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) { // it may just have been dropped
			return nil, fmt.Errorf("read message %d of %s: %w", sequence, subject.StreamTreeHeads, err)
		}
		var head event.TreeHead
		if err == nil && json.Unmarshal(message.Data, &head) == nil && head.Note != "" {
			notes = append(notes, head.Note)
		}
		if sequence == state.FirstSeq {
			break
		}
		sequence -= min(step, sequence-state.FirstSeq)
	}
	return notes, nil
}
