// Package publish takes signed tree heads to where whoever has the database cannot change them.
package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// NATS publishes tree heads as events of the stream TREE_HEADS.
type NATS struct{ bus *bus.Bus }

// NewNATS makes a NATS.
func NewNATS(messages *bus.Bus) *NATS {
	return &NATS{bus: messages}
}

// Publish appends the head to the stream.
func (n *NATS) Publish(ctx context.Context, signed storedtree.SignedHead) error {
	head, err := headOf(signed)
	if err != nil {
		return err
	}
	data, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("encode the tree head: %w", err)
	}
	message := &nats.Msg{Subject: subject.TreeHead, Data: data, Header: nats.Header{
		event.HeaderSpecVersion: {"1.0"}, event.HeaderType: {event.TypeTreeHead}, event.HeaderSource: {"/galley/" + query.ServiceAudit},
		event.HeaderID: {fmt.Sprintf("%s/%d", head.Origin, head.Size)}, event.HeaderTime: {head.SignedAt.Format(time.RFC3339Nano)},
	}}
	if _, err := n.bus.JS.PublishMsg(ctx, message); err != nil {
		return fmt.Errorf("publish on %s: %w", subject.TreeHead, err)
	}
	return nil
}

// Published reads the last head of the stream, through its leader.
func (n *NATS) Published(ctx context.Context) (storedtree.SignedHead, error) {
	stream, err := n.bus.JS.Stream(ctx, subject.StreamTreeHeads)
	if err != nil {
		return storedtree.SignedHead{}, fmt.Errorf("look up stream %s: %w", subject.StreamTreeHeads, err)
	}
	message, err := stream.GetLastMsgForSubject(ctx, subject.TreeHead)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return storedtree.SignedHead{}, nil
	}
	if err != nil {
		return storedtree.SignedHead{}, fmt.Errorf("read the last message of %s: %w", subject.StreamTreeHeads, err)
	}
	var head event.TreeHead
	if err := json.Unmarshal(message.Data, &head); err != nil {
		return storedtree.SignedHead{}, fmt.Errorf("read the last message of %s: %w", subject.StreamTreeHeads, err)
	}
	return storedtree.SignedHead{Size: head.Size, Note: []byte(head.Note)}, nil
}

// headOf is the head as it is told to others.
func headOf(signed storedtree.SignedHead) (event.TreeHead, error) {
	head, err := tree.UnverifiedHead(signed.Note)
	if err != nil {
		return event.TreeHead{}, err
	}
	return head.Event(signed.Note), nil
}
