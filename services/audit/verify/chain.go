package verify

import (
	"fmt"
	"strings"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// Bounds of what is remembered for the end.
const (
	maxBreaks = 10_000
	maxLost   = 1 << 20
)

// link is the last leaf of a customer. Its own is 0 when it is of the version that has no chain.
type link struct {
	row  int64
	own  int64
	hash tree.Hash
}

// broken is a leaf that does not follow its customer's last one.
type broken struct {
	row      int64
	customer string
	chained  bool
	own      int64
	previous tree.Hash
	last     link
	found    bool
}

// chains follows the chain of each customer.
type chains struct {
	last   map[string]link
	breaks []broken
	// gap is the last row that was not read, and open are the leaves after it whose customers' leaves before are not known.
	gap  int64
	open []broken
}

func newChains() chains {
	return chains{last: make(map[string]link)}
}

// add follows the chain to the leaf.
func (c *chains) add(row *checked) {
	if row.err != nil {
		return
	}
	last, found := c.last[row.customer]
	next := broken{
		row: row.sequence, customer: row.customer, chained: row.chained, own: row.own, previous: row.previous, last: last, found: found,
	}
	if !row.chained {
		next.own = 0
	}
	open := last.row < c.gap
	if open || !found {
		next.customer = strings.Clone(next.customer) // it may be part of the leaf
	}
	c.last[next.customer] = link{row: row.sequence, own: next.own, hash: row.hash}
	if open {
		c.open = append(c.open, next)
	} else {
		c.judge(&next)
	}
}

// judge remembers a leaf that does not follow the last one.
func (c *chains) judge(b *broken) {
	follows := b.own == b.last.own+1 && b.previous == b.last.hash
	if !b.chained {
		follows = b.last.own == 0
	}
	if !follows && len(c.breaks) < maxBreaks {
		c.breaks = append(c.breaks, *b)
	}
}

// report adds the breaks that nothing else explains: not those at rows that are known to be others than they were, nor those after leaves
// that are known to be missing.
func (c *chains) report(found *findings, rows *differences) {
	for i := range c.breaks {
		b := &c.breaks[i]
		if _, known := rows.lost[b.previous]; known || rows.has(b.row) || b.found && rows.has(b.last.row) {
			continue
		}
		found.add(Finding{Code: ChainBroken, Sequence: b.row, Customer: b.customer, Message: b.message()})
	}
}

func (b *broken) message() string {
	expected := b.last.own + 1
	switch {
	case b.own == 0:
		return fmt.Sprintf("row %d of customer %q has no place in the customer's chain, though row %d has", b.row, b.customer, b.last.row)
	case b.own == expected && b.found:
		return fmt.Sprintf("row %d, leaf %d of customer %q, does not follow row %d, the customer's leaf before it", b.row, b.own, b.customer,
			b.last.row)
	case b.own == expected:
		return fmt.Sprintf("row %d, leaf 1 of customer %q, follows one that is not there", b.row, b.customer)
	case b.own > expected:
		missing := fmt.Sprintf("leaf %d of customer %q is", expected, b.customer)
		if b.own > expected+1 {
			missing = fmt.Sprintf("leaves %d to %d of customer %q are", expected, b.own-1, b.customer)
		}
		if !b.found {
			return fmt.Sprintf("%s missing: the customer's first one, row %d, is leaf %d", missing, b.row, b.own)
		}
		return fmt.Sprintf("%s missing: row %d is the customer's leaf %d, and the one before it, row %d, is leaf %d", missing, b.row, b.own,
			b.last.row, b.last.own)
	default:
		return fmt.Sprintf("row %d is leaf %d of customer %q, and should be leaf %d", b.row, b.own, b.customer, expected)
	}
}
