package worker

// What is kept of calls that have succeeded, for those who missed the answer.
const (
	maxKept      = 256
	maxKeptBytes = 16 << 20
)

// memory keeps the latest answers, the oldest first.
type memory struct {
	works []*work
	bytes int
}

// add keeps one more, and gives those that make room for it.
func (m *memory) add(w *work) (out []*work) {
	m.works = append(m.works, w)
	m.bytes += len(w.answer)
	for len(m.works) > maxKept || m.bytes > maxKeptBytes {
		out = append(out, m.works[0])
		m.bytes -= len(m.works[0].answer)
		m.works[0] = nil
		m.works = m.works[1:]
	}
	return out
}
