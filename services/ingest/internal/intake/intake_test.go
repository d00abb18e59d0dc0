package intake

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

// delivered is a message as JetStream delivers it.
type delivered struct {
	jetstream.Msg
	subject string
	header  nats.Header
	data    string
}

func (d *delivered) Subject() string      { return d.subject }
func (d *delivered) Headers() nats.Header { return d.header }
func (d *delivered) Data() []byte         { return []byte(d.data) }
func (d *delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{
		Stream: "RUNS", Sequence: jetstream.SequencePair{Stream: 7}, Timestamp: time.Unix(0, 42),
	}, nil
}

const body = `{"agent_id": "cook", "recipe_id": "soup", "input_data": {"litres": 2}, "version": 3}`

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header nats.Header
		data   string
		key    string
		trace  string
	}{
		"bare JSON":         {nil, body, "\x00RUNS/7/42", ""},
		"message id":        {nats.Header{"Nats-Msg-Id": {"order-7"}}, body, "order-7", ""},
		"binary CloudEvent": {nats.Header{"ce-id": {"order-7"}, "ce-specversion": {"1.0"}, "traceparent": {"00-x"}}, body, "order-7", "00-x"},
		"structured CloudEvent": {
			nats.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}},
			`{"specversion": "1.0", "id": "order-7", "source": "/shop", "type": "t", "traceparent": "00-y", "data": ` + body + `}`, "order-7", "00-y",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command, err := decode(&delivered{subject: "galley.run.request.cust_001", header: test.header, data: test.data})
			require.NoError(t, err)
			require.Equal(t, "cust_001", command.Customer)
			require.Equal(t, "cook", command.Agent)
			require.Equal(t, "soup", command.Recipe)
			require.Equal(t, 3, command.Version)
			require.JSONEq(t, `{"litres": 2}`, string(command.Input))
			require.Equal(t, test.key, command.IdempotencyKey)
			require.Equal(t, test.trace, command.Trace)
		})
	}
}

func TestDecodeRefusesWithPath(t *testing.T) {
	t.Parallel()
	structuredHeader := nats.Header{"content-type": {"application/cloudevents+json"}}
	for name, test := range map[string]struct {
		subject string
		header  nats.Header
		data    string
		path    string
	}{
		"two tokens":         {"galley.run.request.a.b", nil, body, ""},
		"unicode customer":   {"galley.run.request.é", nil, body, ""},
		"malformed":          {"galley.run.request.a", nil, `{"agent_id": `, ""},
		"two values":         {"galley.run.request.a", nil, body + body, ""},
		"empty":              {"galley.run.request.a", nil, ``, ""},
		"wrong type":         {"galley.run.request.a", nil, `{"agent_id": 5}`, "/agent_id"},
		"unknown field":      {"galley.run.request.a", nil, `{"agent": "cook"}`, "/agent"},
		"envelope malformed": {"galley.run.request.a", structuredHeader, `[`, ""},
		"envelope without":   {"galley.run.request.a", structuredHeader, `{"data": {}}`, "/specversion"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decode(&delivered{subject: test.subject, header: test.header, data: test.data})
			var invalid *accept.InvalidInput
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, problem.InvalidRequest, invalid.Code)
			require.Len(t, invalid.Violations, 1)
			require.Equal(t, test.path, invalid.Violations[0].Path)
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("cust_001", "", body)
	f.Add("cust_001", "application/cloudevents+json", `{"specversion":"1.0","id":"a","data":`+body+`}`)
	f.Fuzz(func(_ *testing.T, customer, contentType, data string) {
		_, _ = decode(&delivered{
			subject: "galley.run.request." + customer, header: nats.Header{"content-type": {contentType}}, data: data,
		})
	})
}
