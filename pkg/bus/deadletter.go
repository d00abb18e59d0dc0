package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/schemas/subject"
)

// A dead letter is the message that it was, with headers that say where it was and why it is there.
const (
	headerDead = "galley-dead-"
	// HeaderReason is why the message cannot be processed.
	HeaderReason = headerDead + "reason"
	// HeaderSubject, HeaderStream, HeaderSequence and HeaderTime (RFC 3339) are where the message was, and since when.
	HeaderSubject  = headerDead + "subject"
	HeaderStream   = headerDead + "stream"
	HeaderSequence = headerDead + "sequence"
	HeaderTime     = headerDead + "time"
	// HeaderConsumer is the durable consumer that gave it up.
	HeaderConsumer = headerDead + "consumer"
	// HeaderMessageID is its Nats-Msg-Id, absent when it had none: as such it would count for the stream of dead letters.
	HeaderMessageID = headerDead + "message-id"
)

// DeadLetter moves a message that can never be processed to DEAD_LETTERS. The message is terminated only after it is stored there.
func (b *Bus) DeadLetter(ctx context.Context, message jetstream.Msg, reason error) {
	log := b.log.With().Str("subject", message.Subject()).AnErr("reason", reason).Logger()
	letter, err := letterOf(message, reason)
	if err != nil {
		log.Error().Err(err).Msg("dead letter without metadata")
		return
	}
	if _, err := b.JS.PublishMsg(ctx, letter); err != nil {
		log.Error().Err(err).Msg("dead letter not stored, the message will be delivered again")
		_ = message.NakWithDelay(time.Second)
		return
	}
	log.Warn().Msg("message moved to dead letters")
	b.metrics.deadLetters.WithLabelValues(letter.Header.Get(HeaderStream)).Inc()
	if err := message.TermWithReason(reason.Error()); err != nil {
		log.Warn().Err(err).Msg("dead letter not terminated, it will be delivered again")
	}
}

func letterOf(message jetstream.Msg, reason error) (*nats.Msg, error) {
	meta, err := message.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	id, err := identity(message)
	if err != nil {
		return nil, err
	}
	letter := nats.NewMsg(subject.DeadLetter(meta.Stream))
	letter.Data = message.Data()
	for name, values := range message.Headers() {
		// Those of NATS are orders to the server, of which some would make it drop other letters.
		if !strings.HasPrefix(name, "Nats-") && !strings.HasPrefix(name, headerDead) {
			letter.Header[name] = values
		}
	}
	if own := message.Headers().Get(jetstream.MsgIDHeader); own != "" {
		letter.Header.Set(HeaderMessageID, own)
	}
	letter.Header.Set(HeaderReason, oneLine(reason.Error()))
	letter.Header.Set(HeaderSubject, message.Subject())
	letter.Header.Set(HeaderStream, meta.Stream)
	letter.Header.Set(HeaderSequence, strconv.FormatUint(meta.Sequence.Stream, 10))
	letter.Header.Set(HeaderTime, meta.Timestamp.UTC().Format(time.RFC3339Nano))
	letter.Header.Set(HeaderConsumer, meta.Consumer)
	letter.Header.Set(jetstream.MsgIDHeader, id)
	return letter, nil
}

// oneLine makes a text fit for a header.
func oneLine(text string) string {
	return strings.Join(strings.Fields(text), " ")
}

// identity names a message of one stream and, where it was redriven, this very redrive: when it dies again it is another letter.
func identity(message jetstream.Msg) (string, error) {
	meta, err := message.Metadata()
	if err != nil {
		return "", fmt.Errorf("read metadata: %w", err)
	}
	id := meta.Stream + "/" + strconv.FormatUint(meta.Sequence.Stream, 10) + "/" + meta.Consumer
	if again, ok := message.(*redriven); ok {
		id += "/" + strconv.FormatUint(again.redrive, 10)
	}
	return id, nil
}

// redrives is the consumer of the messages that are redriven: it delivers them as what they were.
type redrives struct {
	jetstream.Consumer
	log zerolog.Logger
}

// Consume implements jetstream.Consumer.
func (r redrives) Consume(handle jetstream.MessageHandler, options ...jetstream.PullConsumeOpt) (jetstream.ConsumeContext, error) {
	return r.Consumer.Consume(func(message jetstream.Msg) {
		again, err := restore(message)
		if err != nil {
			r.log.Error().Err(err).Str("subject", message.Subject()).Msg("redriven message is no dead letter")
			_ = message.TermWithReason(err.Error())
			return
		}
		handle(again)
	}, options...)
}

// redriven is a message as it was before it became a dead letter. To acknowledge it is to acknowledge the redrive.
type redriven struct {
	jetstream.Msg
	subject string
	header  nats.Header
	meta    jetstream.MsgMetadata
	// redrive is the sequence of the redrive.
	redrive uint64
}

// Subject implements jetstream.Msg.
func (r *redriven) Subject() string { return r.subject }

// Headers implements jetstream.Msg.
func (r *redriven) Headers() nats.Header { return r.header }

// Metadata implements jetstream.Msg.
func (r *redriven) Metadata() (*jetstream.MsgMetadata, error) {
	meta := r.meta
	return &meta, nil
}

func restore(message jetstream.Msg) (*redriven, error) {
	meta, err := message.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	header := maps.Clone(message.Headers())
	sequence, err := strconv.ParseUint(header.Get(HeaderSequence), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", HeaderSequence, err)
	}
	stored, err := time.Parse(time.RFC3339Nano, header.Get(HeaderTime))
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", HeaderTime, err)
	}
	again := &redriven{Msg: message, subject: header.Get(HeaderSubject), header: header, redrive: meta.Sequence.Stream}
	again.meta = jetstream.MsgMetadata{
		// It was delivered before, so whoever takes a first delivery for a fresh start does not take this one for it.
		NumDelivered: meta.NumDelivered + 1, Stream: header.Get(HeaderStream), Consumer: header.Get(HeaderConsumer), Timestamp: stored,
		Sequence: jetstream.SequencePair{Stream: sequence, Consumer: meta.Sequence.Consumer}, Domain: meta.Domain,
	}
	if again.subject == "" || again.meta.Stream == "" || again.meta.Consumer == "" {
		return nil, errors.New("its headers do not say where it was")
	}
	header.Del(jetstream.MsgIDHeader)
	if own := header.Get(HeaderMessageID); own != "" {
		header.Set(jetstream.MsgIDHeader, own)
	}
	maps.DeleteFunc(header, func(name string, _ []string) bool { return strings.HasPrefix(name, headerDead) })
	return again, nil
}

// Letter is a message in DEAD_LETTERS.
type Letter struct {
	// Sequence names it.
	Sequence uint64
	// Died is when it came there.
	Died   time.Time
	Header nats.Header
	Data   []byte
}

// ErrNoLetter says that there is no such dead letter: it never was, or it was redriven, discarded or has expired.
var ErrNoLetter = errors.New("no such dead letter")

// ErrUnredrivable says that the letter does not tell which consumer gave it up.
var ErrUnredrivable = errors.New("the dead letter does not say who gave it up")

// Letters gives the newest dead letters that are older than before (0: all), and whether there are more.
func (b *Bus) Letters(ctx context.Context, before uint64, limit int) (found []Letter, more bool, err error) {
	stream, err := b.JS.Stream(ctx, subject.StreamDeadLetters)
	if err != nil {
		return nil, false, fmt.Errorf("look up dead letters: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return nil, false, fmt.Errorf("look up dead letters: %w", err)
	}
	gone := make(map[uint64]bool, len(info.State.Deleted))
	for _, sequence := range info.State.Deleted {
		gone[sequence] = true
	}
	last := info.State.LastSeq
	if before > 0 {
		last = min(last, before-1)
	}
	for sequence := last; sequence >= max(1, info.State.FirstSeq); sequence-- {
		if gone[sequence] {
			continue
		}
		letter, err := letterAt(ctx, stream, sequence)
		if errors.Is(err, ErrNoLetter) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if len(found) == limit {
			return found, true, nil
		}
		found = append(found, letter)
	}
	return found, false, nil
}

// Letter reads a dead letter; ErrNoLetter when there is none.
func (b *Bus) Letter(ctx context.Context, sequence uint64) (Letter, error) {
	stream, err := b.JS.Stream(ctx, subject.StreamDeadLetters)
	if err != nil {
		return Letter{}, fmt.Errorf("look up dead letters: %w", err)
	}
	return letterAt(ctx, stream, sequence)
}

func letterAt(ctx context.Context, stream jetstream.Stream, sequence uint64) (Letter, error) {
	message, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Letter{}, ErrNoLetter
	}
	if err != nil {
		return Letter{}, fmt.Errorf("read dead letter %d: %w", sequence, err)
	}
	return Letter{Sequence: sequence, Died: message.Time, Header: message.Header, Data: message.Data}, nil
}

// Redrive has the consumer that gave the message up process it again, and removes the letter. A crash between the two leaves the letter,
// and the message is processed again: handlers know a message that they have processed.
func (b *Bus) Redrive(ctx context.Context, letter Letter) error {
	stream, consumer := letter.Header.Get(HeaderStream), letter.Header.Get(HeaderConsumer)
	if stream == "" || consumer == "" {
		return ErrUnredrivable
	}
	message := nats.NewMsg(subject.Redrive(stream, consumer))
	message.Header, message.Data = maps.Clone(letter.Header), letter.Data
	message.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%d/%d", letter.Sequence, letter.Died.UnixNano()))
	if _, err := b.JS.PublishMsg(ctx, message); err != nil {
		return fmt.Errorf("redrive dead letter %d: %w", letter.Sequence, err)
	}
	return b.Discard(ctx, letter)
}

// Discard removes a dead letter.
func (b *Bus) Discard(ctx context.Context, letter Letter) error {
	stream, err := b.JS.Stream(ctx, subject.StreamDeadLetters)
	if err != nil {
		return fmt.Errorf("look up dead letters: %w", err)
	}
	if err := stream.DeleteMsg(ctx, letter.Sequence); err != nil {
		if _, unread := letterAt(ctx, stream, letter.Sequence); errors.Is(unread, ErrNoLetter) {
			return ErrNoLetter // somebody else was faster
		}
		return fmt.Errorf("remove dead letter %d: %w", letter.Sequence, err)
	}
	return nil
}
