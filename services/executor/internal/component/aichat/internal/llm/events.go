package llm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/galley-engine/galley/pkg/outbound"
)

// maxStream is the most that is read of a stream. Around each token there are a few hundred bytes.
const maxStream = 64 << 20

// eventReader reads server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.
type eventReader struct {
	lines *bufio.Scanner
}

func newEventReader(body io.ReadCloser) *eventReader {
	lines := bufio.NewScanner(http.MaxBytesReader(nil, body, maxStream))
	lines.Buffer(nil, MaxAnswer)
	return &eventReader{lines: lines}
}

// next is the data of the next event that has any, io.EOF at the end. Any other error is a *problem.Error. The name of the event is not
// read: what the data is stands in it.
func (r *eventReader) next() ([]byte, error) {
	var data []byte
	for r.lines.Scan() {
		line := r.lines.Bytes()
		if len(line) == 0 && len(data) > 0 {
			return data, nil
		}
		value, isData := bytes.CutPrefix(line, []byte("data:"))
		if !isData {
			continue
		}
		if len(data) > 0 {
			data = append(data, '\n')
		}
		if data = append(data, bytes.TrimPrefix(value, []byte(" "))...); len(data) > MaxAnswer {
			return nil, tooLarge()
		}
	}
	var over *http.MaxBytesError
	switch err := r.lines.Err(); {
	case err == nil: // an event that is not complete is none
		return nil, io.EOF
	case errors.Is(err, bufio.ErrTooLong), errors.As(err, &over):
		return nil, tooLarge()
	default:
		return nil, outbound.Classify(err)
	}
}
