package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

// DeadLetters writes a list of dead letters, the newest first.
func (r *Report) DeadLetters(letters []client.DeadLetter, more bool) {
	if len(letters) == 0 {
		r.Line("there are no dead letters")
		return
	}
	rows := make([][]string, len(letters))
	for i, l := range letters {
		rows[i] = []string{
			strconv.FormatUint(l.Sequence, 10), l.DiedAt.UTC().Format(time.DateTime), l.Subject, l.Consumer, strconv.Itoa(l.Size), l.Reason,
		}
	}
	table(r.w, []column{
		{title: "letter", right: true},
		{title: "time", style: quiet},
		{title: "subject"},
		{title: "consumer"},
		{title: "bytes", right: true},
		{title: "reason"},
	}, rows)
	if more {
		fmt.Fprintln(r.w, indent+faint().Render(ellipsis+" and older ones"))
	}
}

// DeadLetter writes a dead letter with its headers and its data.
func (r *Report) DeadLetter(l client.DeadLetter) {
	r.Heading("dead letter "+strconv.FormatUint(l.Sequence, 10), l.DiedAt.UTC().Format(time.DateTime))
	r.Facts(
		[2]string{"reason", printable(l.Reason)}, [2]string{"subject", printable(l.Subject)},
		[2]string{"stream", fmt.Sprintf("%s, sequence %d", printable(l.Stream), l.Original)}, [2]string{"consumer", printable(l.Consumer)},
	)
	r.Heading("Headers", "")
	facts := make([][2]string, 0, len(l.Headers))
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		facts = append(facts, [2]string{printable(name), printable(strings.Join(l.Headers[name], ", "))})
	}
	r.Facts(facts...)
	r.Heading("Data", l.Encoding)
	fmt.Fprintln(r.w, indent+printable(l.Data))
}
