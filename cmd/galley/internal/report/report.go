// Package report prints what galley has to tell: in colour on a terminal, as plain text elsewhere.
package report

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

// Report writes to one place. What cannot be written is lost: nobody is there to read it.
type Report struct {
	w io.Writer
}

// New makes a Report. Colours are used when w is a terminal that can show them and environ has no NO_COLOR.
func New(w io.Writer, environ []string) *Report {
	return &Report{w: &colorprofile.Writer{Forward: w, Profile: Profile(w, environ)}}
}

// Profile tells what w can show: colours, on a terminal without them other marks, or nothing but text.
func Profile(w io.Writer, environ []string) colorprofile.Profile {
	profile := colorprofile.Detect(w, environ)
	// Any value counts (https://no-color.org), of which the library takes only those that mean true.
	if slices.ContainsFunc(environ, func(entry string) bool { return strings.HasPrefix(entry, "NO_COLOR=") && entry != "NO_COLOR=" }) {
		return min(profile, colorprofile.ASCII)
	}
	return profile
}

// Line writes a line of plain text.
func (r *Report) Line(format string, values ...any) {
	fmt.Fprintln(r.w, indent+fmt.Sprintf(format, values...))
}

// Heading begins a section. The note stands behind it.
func (r *Report) Heading(title, note string) {
	if note != "" {
		note = gap + faint().Render(note)
	}
	fmt.Fprintln(r.w, "\n"+indent+bold().Render(title)+note)
}

// Facts writes names with their values below one another.
func (r *Report) Facts(pairs ...[2]string) {
	width := 0
	for _, pair := range pairs {
		width = max(width, lipgloss.Width(pair[0]))
	}
	for _, pair := range pairs {
		fmt.Fprintln(r.w, indent+pad(faint().Render(pair[0]), width, false)+gap+pair[1])
	}
}

// Response writes the standard response: how it ended, the records that it found as a table, its steps, and the JSON.
func (r *Report) Response(response event.Response) {
	meta := response.Metadata
	r.Heading(fmt.Sprintf("%s/%s", response.AgentID, response.RecipeID), "version "+strconv.Itoa(response.RecipeVersion)+
		", execution "+response.ExecutionID)
	fmt.Fprintln(r.w, indent+byStatus(string(response.Status)).Bold(true).Render(strings.ToUpper(string(response.Status)))+
		fmt.Sprintf(" in %s, %d records, %s credits", milliseconds(meta.DurationMS), meta.RecordsProcessed, meta.CreditsConsumed))
	for _, problem := range response.Errors {
		where := ""
		if problem.Step != "" {
			where = "step " + problem.Step + ": "
		}
		fmt.Fprintln(r.w, indent+red().Render(string(problem.Code))+" "+where+printable(problem.Message))
	}
	shown := r.records(response)
	r.steps(meta.Steps)
	r.Heading("Response", "")
	r.json(envelope(response, shown))
}

// records writes the list that is the result of the recipe, and returns its name.
func (r *Report) records(response event.Response) string {
	name, list := records(response.Data)
	if name == "" {
		return ""
	}
	names := columnsOf(list)
	if len(names) == 0 {
		return ""
	}
	r.Heading(strings.ToUpper(name[:1])+name[1:], strconv.Itoa(len(list)))
	columns := make([]column, len(names))
	for i, name := range names {
		_, number := list[0][name].(float64)
		columns[i] = column{title: name, right: number}
	}
	var rows [][]string
	for _, item := range list[:min(len(list), maxRows)] {
		row := make([]string, len(names))
		for i, name := range names {
			row[i] = fmt.Sprint(item[name])
		}
		rows = append(rows, row)
	}
	table(r.w, columns, rows)
	if more := len(list) - maxRows; more > 0 {
		fmt.Fprintln(r.w, indent+faint().Render(fmt.Sprintf("%s and %d more", ellipsis, more)))
	}
	for _, prose := range proseOf(list) {
		r.Heading(strings.ToUpper(prose[:1])+prose[1:], "")
		for _, item := range list[:min(len(list), maxRows)] {
			text, _ := item[prose].(string)
			fmt.Fprintln(r.w, indent+faint().Render(printable(fmt.Sprint(item[names[0]])))+gap+printable(text))
		}
	}
	return name
}

func (r *Report) steps(steps []event.StepSummary) {
	r.Heading("Steps", "")
	columns := []column{
		{title: "step"},
		{title: "status", style: byStatus},
		{title: "time", right: true},
		{title: "attempts", right: true},
		{title: "credits", right: true},
	}
	measured := slices.ContainsFunc(steps, func(step event.StepSummary) bool { return step.Usage != nil })
	if measured {
		columns = append(columns, column{title: "used"})
	}
	rows := make([][]string, len(steps))
	for i, step := range steps {
		rows[i] = []string{step.ID, string(step.Status), milliseconds(step.DurationMS), strconv.Itoa(step.Attempts), step.Credits.String()}
		if measured {
			rows[i] = append(rows[i], used(step.Usage))
		}
	}
	table(r.w, columns, rows)
}

// used says what a step has used, "" where nothing was counted.
func used(usage *event.Usage) string {
	if usage == nil {
		return ""
	}
	var parts []string
	for _, part := range []struct {
		count int64
		what  string
	}{{usage.InputTokens, "tokens in"}, {usage.OutputTokens, "tokens out"}, {usage.Units, "units"}} {
		if part.count > 0 {
			parts = append(parts, strconv.FormatInt(part.count, 10)+" "+part.what)
		}
	}
	return strings.Join(parts, ", ")
}

// Progress writes what a step tells while it runs.
func (r *Report) Progress(step, text string) {
	fmt.Fprintln(r.w, indent+faint().Render(step)+gap+printable(text))
}

func (r *Report) json(text string) {
	key := regexp.MustCompile(`(?m)^(\s*)("[^"]*")(: )`)
	text = key.ReplaceAllStringFunc(text, func(match string) string {
		part := key.FindStringSubmatch(match)
		return part[1] + cyan().Render(part[2]) + part[3]
	})
	fmt.Fprintln(r.w, indent+strings.ReplaceAll(text, "\n", "\n"+indent))
}

// Ledger writes rows of the ledger, the oldest first.
func (r *Report) Ledger(transactions []query.Transaction) {
	rows := make([][]string, len(transactions))
	for i, t := range transactions {
		rows[len(rows)-1-i] = []string{
			strconv.FormatInt(t.ID, 10), clock(t.CreatedAt), t.Kind, t.Amount.String(), t.BalanceAfter.String(), t.Reason,
			cmp.Or(t.ExecutionID, t.GrantID),
		}
	}
	table(r.w, []column{
		{title: "row", right: true, style: quiet},
		{title: "time", style: quiet},
		{title: "kind"},
		{title: "amount", right: true, style: bySign},
		{title: "balance", right: true},
		{title: "reason"},
		{title: "execution or grant", style: quiet},
	}, rows)
}

// Executions writes a list of executions, the newest first.
func (r *Report) Executions(executions []client.Execution, more bool) {
	rows := make([][]string, len(executions))
	for i, e := range executions {
		took := ""
		if e.Status.Terminal() {
			took = milliseconds(e.DurationMS)
		}
		rows[i] = []string{
			e.AcceptedAt.UTC().Format(time.DateTime), e.AgentID + "/" + e.RecipeID, strconv.Itoa(e.Version), string(e.Status),
			took, e.Charged.String(), e.ExecutionID,
		}
	}
	table(r.w, []column{
		{title: "accepted", style: quiet},
		{title: "recipe"},
		{title: "version", right: true},
		{title: "status", style: byStatus},
		{title: "time", right: true},
		{title: "credits", right: true},
		{title: "execution", style: quiet},
	}, rows)
	if more {
		fmt.Fprintln(r.w, indent+faint().Render(ellipsis+" and older ones"))
	}
}

// Commands writes lines that the reader may copy and run, each under what it does.
func (r *Report) Commands(pairs ...[2]string) {
	for i, pair := range pairs {
		if i > 0 {
			fmt.Fprintln(r.w)
		}
		fmt.Fprintln(r.w, indent+faint().Render("# "+pair[0]))
		fmt.Fprintln(r.w, indent+strings.ReplaceAll(pair[1], "\n", "\n"+indent))
	}
}

func milliseconds(n int64) string {
	d := time.Duration(n) * time.Millisecond
	if d < time.Second {
		return strconv.FormatInt(n, 10) + " ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
}

func clock(t time.Time) string {
	return t.UTC().Format("15:04:05.000")
}
