package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	// maxLine bounds a line of an export, in bytes.
	maxLine = 32 << 20
	// linesAtOnce and bytesAtOnce bound what is handed on at once, but for a line that is longer.
	linesAtOnce = 1024
	bytesAtOnce = 1 << 20
)

// Export verifies the lines of an export (package schemas/audit), of the whole log or of one customer. The error says that they could not
// be read to their end; what is wrong is in the Report. A customer's export proves that no leaf among its own was left out, but not that
// there are none after its last one: Report.Leaves can be compared with a later export, or with what the customer knows to have happened.
//
// Of Options.Published those are compared that are not newer than the export; Report.Unchecked counts the others. Memory is needed for 72
// bytes a leaf at most, and the tiles.
func Export(ctx context.Context, r io.Reader, options Options) (*Report, error) {
	set, err := options.settings()
	if err != nil {
		return nil, err
	}
	start := set.Clock()
	e := &export{
		set: set, found: &findings{limit: set.MaxFindings}, chains: newChains(), payloads: make(map[Payload]int64),
		claims: claims{leaves: make(map[int64][]byte), upper: make(map[tree.TileID][]byte)},
	}
	in := bufio.NewReaderSize(r, bytesAtOnce)
	err = ordered(ctx, set.Workers, func(ctx context.Context, emit func(*batch) error) error { return e.read(ctx, in, emit) }, e.decode, e.take)
	if err != nil {
		return nil, fmt.Errorf("read the export: %w", err)
	}
	report := e.finish()
	report.Duration = set.Clock().Sub(start)
	return report, nil
}

// export is what was read of an export.
type export struct {
	set      *settings
	found    *findings
	customer string
	chains   chains
	claims   claims
	payloads map[Payload]int64
	heads    []signedHead
	unsigned foreign

	// rows are the hashes of the leaves.
	rows []series
	// last is the sequence of the last leaf, newest the place of the largest tree head that the log's key has signed, -1 for none.
	last     int64
	newest   int
	leaves   int64
	lines    int64
	lastKind audit.Kind
	// doubts are what is wrong with a row by itself: of no interest when the row is none of the log's.
	doubts []Finding
	// unusable says that there is no first line.
	unusable bool
}

// series are leaves that follow one another.
type series struct {
	first  int64
	hashes []tree.Hash
}

// batch is a series of lines.
type batch struct {
	first int64
	lines [][]byte
	bytes int
	read  []line
	fault *Finding
}

// line is a line that was decoded.
type line struct {
	audit.Line
	row  checked
	head signedHead
	err  error
}

// read cuts the export into lines.
func (e *export) read(ctx context.Context, in *bufio.Reader, emit func(*batch) error) error {
	b := &batch{first: 1}
	for number := int64(1); ; number++ {
		text, err := readLine(in)
		switch {
		case errors.Is(err, errLong):
			b.fault = &Finding{Code: ExportMalformed, Line: number, Message: fmt.Sprintf("line %d is longer than %d bytes", number, maxLine)}
			return emit(b)
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case len(text) > 0:
			b.lines, b.bytes = append(b.lines, text), b.bytes+len(text)
		}
		if err != nil {
			return emit(b)
		}
		if len(b.lines) >= linesAtOnce || b.bytes >= bytesAtOnce {
			if err := emit(b); err != nil {
				return err
			}
			b = &batch{first: number + 1}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

var errLong = errors.New("the line is too long")

// readLine reads up to the end of the line, which it includes.
func readLine(in *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(text)+len(part) > maxLine {
			return nil, errLong
		}
		text = append(text, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, err
		}
	}
}

// decode looks at each line by itself. It runs beside others.
func (e *export) decode(b *batch) {
	b.read = make([]line, len(b.lines))
	for i, text := range b.lines {
		l := &b.read[i]
		if err := json.Unmarshal(text, &l.Line); err != nil {
			l.err = errors.New("it is not JSON of the format")
			continue
		}
		switch l.Kind {
		case audit.KindLeaf:
			if l.Index < 0 || l.Index >= maxSize {
				l.err = errSize
				continue
			}
			payload := len(l.Salt) > 0 || len(l.Data) > 0
			l.row = check(&stored{sequence: l.Index + 1, leaf: []byte(l.Leaf), payload: payload, salt: l.Salt, data: l.Data})
		case audit.KindHead:
			l.head, l.err = e.set.read([]byte(l.Note))
		case audit.KindTile:
			l.err = checkTile(&l.Line)
		case audit.KindLog:
			if l.Format != audit.Format {
				l.err = fmt.Errorf("format %d is not known", l.Format)
			}
		default:
			l.err = fmt.Errorf("a line of kind %.40q is not known", l.Kind)
		}
	}
	b.lines = nil
}

func checkTile(l *audit.Line) error {
	width := len(l.Hashes) / tree.HashSize
	if l.Level < 0 || l.Level > maxLevel || l.Index < 0 || l.Index >= maxSize>>(tileBits*(l.Level+1)) ||
		width < 1 || width > tileWidth || len(l.Hashes)%tree.HashSize != 0 {
		return errors.New("there is no such tile")
	}
	return nil
}

// take takes the lines in their order.
func (e *export) take(b *batch) {
	for i := range b.read {
		e.lines++
		if !e.unusable {
			e.line(&b.read[i], b.first+int64(i))
		}
	}
	if b.fault != nil {
		e.found.add(*b.fault)
	}
}

func (e *export) line(l *line, number int64) {
	e.lastKind = l.Kind
	malformed := func(err error) {
		e.found.add(Finding{Code: ExportMalformed, Line: number, Message: fmt.Sprintf("line %d: %v", number, err)})
	}
	first := e.lines == 1
	switch {
	case first && (l.Kind != audit.KindLog || l.err != nil):
		e.unusable = true
		malformed(errors.New("an export begins with a line that says what it is of"))
	case l.Kind == audit.KindHead && l.err != nil:
		size := int64(0)
		if head, err := tree.UnverifiedHead([]byte(l.Note)); err == nil {
			size = head.Size
		}
		e.unsigned.add(size, l.err)
	case l.err != nil:
		malformed(l.err)
	case l.Kind == audit.KindLog && !first:
		malformed(errors.New("only the first line says what the export is of"))
	case l.Kind == audit.KindLog:
		e.customer = l.CustomerID
		if !slices.Contains(e.set.names(), l.Origin) {
			malformed(fmt.Errorf("it is of the log %.100q, and the key is that of %q", l.Origin, e.set.names()[0]))
		}
	case l.Kind == audit.KindHead:
		e.heads = append(e.heads, l.head)
	case l.Kind == audit.KindTile && e.claims.tile(l.Level, l.Index) != nil:
		malformed(fmt.Errorf("tile %d of level %d is there already", l.Index, l.Level))
	case l.Kind == audit.KindTile && l.Level == 0:
		e.claims.leaves[l.Index] = l.Hashes
	case l.Kind == audit.KindTile:
		e.claims.upper[tree.TileID{Level: l.Level, Index: l.Index}] = l.Hashes
	case l.row.sequence <= e.last:
		malformed(fmt.Errorf("the leaf of row %d comes after that of row %d", l.row.sequence, e.last))
	default:
		e.keep(&l.row)
		e.look(&l.row)
	}
}

// maxDoubts bounds what is remembered of rows for the end.
const maxDoubts = 10_000

func (e *export) doubt(found Finding) {
	if len(e.doubts) < maxDoubts {
		e.doubts = append(e.doubts, found)
	}
}

// keep remembers the leaf's hash.
func (e *export) keep(row *checked) {
	n := len(e.rows)
	follows := n > 0 && row.sequence == e.last+1
	if follows && len(e.rows[n-1].hashes) < tileWidth {
		e.rows[n-1].hashes = append(e.rows[n-1].hashes, row.hash)
	} else {
		room := 1
		if follows {
			room = tileWidth
		}
		e.rows = append(e.rows, series{first: row.sequence, hashes: append(make([]tree.Hash, 0, room), row.hash)})
	}
	e.last = row.sequence
	e.leaves++
}

// look looks at what the leaf says.
func (e *export) look(row *checked) {
	switch {
	case row.err != nil:
		e.doubt(Finding{
			Code: LeafMalformed, Sequence: row.sequence, Message: fmt.Sprintf("the leaf of row %d cannot be read: %v", row.sequence, row.err),
		})
		return
	case e.customer != audit.Everyone && row.customer != e.customer:
		e.found.add(Finding{Code: ForeignLeaf, Sequence: row.sequence, Customer: row.customer, Message: fmt.Sprintf(
			"the leaf of row %d is that of customer %q, not %q", row.sequence, row.customer, e.customer)})
		return
	}
	e.chains.add(row)
	if row.changed {
		e.doubt(Finding{
			Code: PayloadChanged, Sequence: row.sequence, Message: fmt.Sprintf("the payload of row %d was changed: %v", row.sequence, errPayload),
		})
		return
	}
	e.payloads[row.payload]++
}

// finish compares what was read with the tree heads.
func (e *export) finish() *Report {
	sortHeads(e.heads)
	if e.unusable || e.lines == 0 {
		if e.lines == 0 {
			e.found.add(Finding{Code: ExportMalformed, Line: 1, Message: "the export is empty"})
		}
		return newWalk(e.found, &e.claims, 0).report(e.set, e.customer)
	}
	e.newest = len(e.heads) - 1
	for e.newest >= 0 && e.heads[e.newest].stranger {
		e.newest--
	}
	if e.newest < 0 {
		e.found.add(Finding{Code: HeadMissing, Message: "the export has no tree head that the key has signed"})
	} else if e.lastKind != audit.KindHead {
		e.found.add(Finding{Code: ExportMalformed, Line: e.lines, Message: "the export was cut off: its last line is no tree head"})
	}
	given, unsigned, strangers := e.set.published()
	var report *Report
	if e.customer == audit.Everyone {
		report = e.whole(given, unsigned)
	} else {
		report = e.own(given, unsigned)
	}
	report.PayloadsChecked, report.PayloadsElsewhere = e.payloads[PayloadChecked], e.payloads[PayloadElsewhere]
	report.PayloadsErased = e.payloads[PayloadErased]
	report.Unchecked += strangers
	return report
}

// whole verifies an export of the whole log.
func (e *export) whole(given []signedHead, unsigned foreign) *Report {
	end := e.last
	if e.newest >= 0 {
		end = e.heads[e.newest].Size
	}
	w := newWalk(e.found, &e.claims, end)
	w.claimant = "its newest tree head is of a log"
	w.chains, w.heads.unsigned[kept], w.heads.unsigned[published] = e.chains, e.unsigned, unsigned
	w.expect(e.heads)
	newer := slices.IndexFunc(given, func(h signedHead) bool { return h.Size > end })
	if newer < 0 {
		newer = len(given)
	}
	w.expect(given[:newer])
	for i := range e.rows {
		for j, hash := range e.rows[i].hashes {
			w.addHash(e.rows[i].first+int64(j), hash)
		}
		e.rows[i].hashes = nil
	}
	w.finish()
	e.settle(&w.rows)
	report := w.report(e.set, e.customer)
	report.Unchecked = len(given) - newer
	return report
}

// settle reports what is wrong with rows that are the log's.
func (e *export) settle(rows *differences) {
	for _, doubt := range e.doubts {
		if !rows.has(doubt.Sequence) {
			e.found.add(doubt)
		}
	}
}
