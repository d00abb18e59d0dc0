package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"charm.land/lipgloss/v2"
)

const (
	indent   = "  "
	gap      = "   "
	maxWidth = 44
	ellipsis = "…"
)

// column is one column of a table. Numbers stand on the right.
type column struct {
	title string
	right bool
	style func(text string) lipgloss.Style
}

// table writes rows of text under a line of titles, each column as wide as its widest text. Columns without any text are left out.
func table(w io.Writer, columns []column, rows [][]string) {
	for i := range slices.Backward(columns) {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[i] != "" }) {
			columns = slices.Delete(slices.Clone(columns), i, i+1)
			for r := range rows {
				rows[r] = slices.Delete(rows[r], i, i+1)
			}
		}
	}
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = lipgloss.Width(c.title)
	}
	for r, row := range rows {
		for i, text := range row {
			rows[r][i] = cell(text)
			widths[i] = max(widths[i], lipgloss.Width(rows[r][i]))
		}
	}
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = pad(faint().Render(c.title), widths[i], c.right)
	}
	line(w, titles)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, text := range row {
			if style := columns[i].style; style != nil && text != "" {
				text = style(text).Render(text)
			}
			cells[i] = pad(text, widths[i], columns[i].right)
		}
		line(w, cells)
	}
}

func line(w io.Writer, cells []string) {
	fmt.Fprintln(w, indent+strings.TrimRight(strings.Join(cells, gap), " "))
}

func pad(text string, width int, right bool) string {
	space := strings.Repeat(" ", width-lipgloss.Width(text))
	if right {
		return space + text
	}
	return text + space
}

// cell makes a text fit for a terminal: what comes from outside may hold control sequences and have any length.
func cell(text string) string {
	text = printable(text)
	if lipgloss.Width(text) <= maxWidth {
		return text
	}
	runes := []rune(text)
	for lipgloss.Width(string(runes)) >= maxWidth {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + ellipsis
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}
