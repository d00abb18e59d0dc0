package workercall

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/schemas/problem"
)

// FuzzReply: whatever a worker sends is a sign of life, or an answer that is an outcome.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"", " ", `{"heartbeat":true}`, `{"progress":"x"}`, `{"busy":true}`, `{"output":null}`, `{"output":{"a":[1]},"usage":{"units":1}}`,
		`{"error":{"code":"RATE_LIMITED","message":"m","retryable":true}}`, `{"error":{"code":"\u0000","message":"\ud800"}}`, "[", "\xff", `{"output":1e999}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w := &waiter{call: "call", news: make(chan struct{}, 1)}
		ended := w.hear(&nats.Msg{Subject: "call", Data: data}, time.Unix(0, 0))
		heard := w.take()
		if ended != (heard.answer != nil) || ended == (heard.alive || heard.busy) {
			t.Fatalf("%q is heard as %+v", data, heard)
		}
		if !ended {
			return
		}
		result, err := answer(data)
		if err == nil {
			return
		}
		failed, ok := err.(*problem.Error) //nolint:errorlint // it is never wrapped
		if !ok || result.Output != nil || failed.Code == "" || failed.Message == "" {
			t.Fatalf("%q gives %v", data, err)
		}
		if !utf8.ValidString(failed.Message) || utf8.RuneCountInString(failed.Message) > maxMessage || strings.ContainsAny(failed.Message, "\n\r\x00\x1b") {
			t.Fatalf("%q gives the message %q", data, failed.Message)
		}
	})
}
