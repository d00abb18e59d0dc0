package verification

import (
	"context"
	"errors"

	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/verify"
)

// shares say how much of a log that grows is read at a time. Time is counted in intervals, from 1970: what is read when is the clock's to say,
// not the log's.
type shares struct {
	// small is up to how many rows of a log are always read.
	small int64
	// stretch is how many rows are read, or left out, together.
	stretch int64
	// round is in how many intervals each stretch comes once.
	round int64
	// whole is at which multiples of intervals all is read.
	whole int64
}

func standard() shares {
	return shares{small: 2_000_000, stretch: 1 << 20, round: 30, whole: 90}
}

// skip gives what need not be read in interval now, when rows up to known were found to be right, and the last verification was in interval
// last: the stretches whose turn it has not been since.
func (s shares) skip(known, last, now int64) []verify.Rows {
	last = min(last, now-1)
	if known < s.small || now-last >= s.round || now/s.whole != last/s.whole {
		return nil
	}
	var rows []verify.Rows
	for i := int64(0); i*s.stretch < known; i++ {
		// The intervals last+1 to now are i's turn when one of them is i, but for multiples of the round.
		if wait := ((i-last-1)%s.round + s.round) % s.round; wait >= now-last {
			rows = append(rows, verify.Rows{From: i*s.stretch + 1, To: min((i+1)*s.stretch, known)})
		}
	}
	return rows
}

// known gives up to which row the last verification has found all to be right, 0 when that is not certain: when it found something; when its
// row is not behind the rows that it is about, and so would not be read itself; and when it claims what no tree head of the log's key says.
func (v *Verifier) known(ctx context.Context, last *Last) (int64, error) {
	if last.Found > 0 || last.SignedSize <= 0 || last.SignedSize >= last.Sequence {
		return 0, nil
	}
	signed, err := storedtree.SignedAt(ctx, v.Pool, last.SignedSize)
	if err != nil {
		return 0, err
	}
	head, err := verify.OpenHead(string(signed.Note), verify.Options{Key: v.Key})
	if errors.Is(err, verify.ErrKey) {
		return 0, err
	}
	if err != nil || head.Size != last.SignedSize {
		return 0, nil //nolint:nilerr // then everything is read, and what is wrong with the head is found
	}
	return head.Size, nil
}
