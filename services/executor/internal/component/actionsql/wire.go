package actionsql

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
)

var (
	// errCopy says that the server began to copy: it would wait for rows that nobody sends, or send some that nobody reads.
	errCopy = errors.New("the statement is a COPY")
	// errMisunderstood says that the server said something that makes no sense.
	errMisunderstood = errors.New("the server broke its protocol")
)

// wire reads what the server sends and knows just enough of it, the type and length of each message, to stop at one of COPY.
type wire struct {
	reader io.Reader
	// header holds what is known of the header of a message, body how much of its body is still to come.
	header []byte
	body   int
	// copies tells that one of COPY has come; pgconn may have another error by then.
	copies atomic.Bool
}

// Read implements io.Reader.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.reader.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if skipped := min(w.body, len(rest)); skipped > 0 {
			w.body -= skipped
			rest = rest[skipped:]
			continue
		}
		taken := min(5-len(w.header), len(rest))
		w.header = append(w.header, rest[:taken]...)
		rest = rest[taken:]
		if len(w.header) < 5 {
			continue
		}
		length := binary.BigEndian.Uint32(w.header[1:])
		switch kind := w.header[0]; {
		case length < 4 || length > maxMessage+4:
			w.body = maxMessage * 1024 // whoever reads the messages refuses this one
		case kind == 'G', kind == 'H', kind == 'W':
			w.copies.Store(true)
			return 0, errCopy
		default:
			w.body = int(length) - 4
		}
		w.header = w.header[:0]
	}
	return n, err
}
