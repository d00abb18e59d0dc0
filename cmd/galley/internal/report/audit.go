package report

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/verify"
)

// Audit writes rows of the audit log, the oldest first.
func (r *Report) Audit(events []query.AuditEvent) {
	r.audit(events, clock)
}

func (r *Report) audit(events []query.AuditEvent, when func(t time.Time) string) {
	several := false
	for i := range events {
		several = several || events[i].CustomerID != events[0].CustomerID
	}
	rows := make([][]string, len(events))
	for i, e := range events {
		customer := ""
		if several {
			customer = e.CustomerID
		}
		rows[len(rows)-1-i] = []string{
			strconv.FormatInt(e.Sequence, 10), when(e.OccurredAt), customer, e.ActionType, e.Outcome, e.ActorType, e.ResourceID,
		}
	}
	table(r.w, []column{
		{title: "row", right: true, style: quiet},
		{title: "time", style: quiet},
		{title: "customer"},
		{title: "action"},
		{title: "outcome", style: byStatus},
		{title: "by"},
		{title: "resource", style: quiet},
	}, rows)
}

// AuditPage is Audit with the days, and a word on whether there is more.
func (r *Report) AuditPage(events []query.AuditEvent, more bool) {
	if more {
		fmt.Fprintln(r.w, indent+faint().Render(ellipsis+" and older ones"))
	}
	if len(events) == 0 {
		r.Line("no rows")
		return
	}
	r.audit(events, func(t time.Time) string { return t.UTC().Format(time.DateOnly + " 15:04:05.000") })
}

// TreeHead writes the newest tree head.
func (r *Report) TreeHead(head *query.AuditTreeHeadReply) {
	r.Heading(head.Origin, strconv.FormatInt(head.Rows, 10)+" rows")
	if head.Note == "" {
		r.Line("nothing is signed yet")
	} else {
		r.Facts([2]string{"signed rows", strconv.FormatInt(head.Size, 10)}, [2]string{"root", head.Root},
			[2]string{"signed at", head.SignedAt.UTC().Format(time.RFC3339Nano)}, [2]string{"public key", printable(head.PublicKey)})
	}
	if head.Fault != "" {
		r.Line("%s", red().Render(printable(head.Fault)))
	}
}

// Inclusion writes a proof that was checked. keyFrom says where the public key was from.
func (r *Report) Inclusion(proof *audit.Inclusion, found *verify.Included, keyFrom string) {
	r.Heading(printable(found.EventID), "row "+strconv.FormatInt(found.Index+1, 10)+" of "+found.Head.Origin)
	r.Line("%s: two implementations agree that it is in the log of this tree head", green().Render("PROVED"))
	data := map[verify.Payload]string{
		verify.PayloadChecked:   "is what the leaf's digest is of",
		verify.PayloadElsewhere: "is not kept here; its salt is",
		verify.PayloadErased:    "is erased",
		verify.PayloadNone:      "was never kept",
	}[found.Payload]
	r.Facts(append(headFacts(&found.Head), [2]string{"public key", keyFrom}, [2]string{"data", data})...)
	r.Heading("Leaf", "")
	r.Line("%s", printable(proof.Leaf))
	r.Heading("Path", strconv.Itoa(len(proof.Path))+" hashes, from the leaf to the root")
	for _, hash := range proof.Path {
		r.Line("%s", base64.StdEncoding.EncodeToString(hash))
	}
}

func headFacts(head *verify.Head) [][2]string {
	return [][2]string{
		{"rows", strconv.FormatInt(head.Size, 10)}, {"root", head.Root}, {"signed at", head.Time.UTC().Format(time.RFC3339Nano)},
	}
}

// Consistency writes what a proof has shown.
func (r *Report) Consistency(found *verify.Consistent, keyFrom string) {
	r.Heading(found.Newer.Origin, "")
	r.Line("%s: the log begins with that of the older tree head; nothing of it was changed", green().Render("PROVED"))
	table(r.w, []column{{title: ""}, {title: "rows", right: true}, {title: "signed at"}, {title: "root", style: quiet}}, [][]string{
		{"older", strconv.FormatInt(found.Older.Size, 10), found.Older.Time.UTC().Format(time.RFC3339Nano), found.Older.Root},
		{"newer", strconv.FormatInt(found.Newer.Size, 10), found.Newer.Time.UTC().Format(time.RFC3339Nano), found.Newer.Root},
	})
	r.Facts([2]string{"public key", keyFrom})
}

// Verification writes what a verification found. keyFrom says where the public key was from.
func (r *Report) Verification(found *verify.Report, keyFrom string) {
	whose := "the whole log"
	if found.CustomerID != audit.Everyone {
		whose = "customer " + printable(found.CustomerID)
	}
	r.Heading(printable(found.Origin), whose)
	verdict := green().Render("WHOLE")
	if !found.Whole() {
		verdict = red().Render("NOT WHOLE")
	}
	r.Line("%s: %d rows, of a log of %d, read in %s", verdict, found.Leaves, found.Size, found.Duration.Round(time.Millisecond))
	var facts [][2]string
	if found.Root != "" {
		facts = append(facts, [2]string{"root", found.Root})
	}
	if found.SignedSize > 0 {
		facts = append(facts, [2]string{"signed", fmt.Sprintf("%d rows, at %s", found.SignedSize, found.SignedAt.UTC().Format(time.RFC3339Nano))})
	}
	heads := fmt.Sprintf("%d of the log, %d from elsewhere", found.Heads, found.Published)
	if found.FormerHeads > 0 {
		heads += fmt.Sprintf(", %d of a name from before that fit", found.FormerHeads)
	}
	if found.Unchecked > 0 {
		heads += fmt.Sprintf("; %d could not be compared", found.Unchecked)
	}
	facts = append(facts, [2]string{"tree heads", heads},
		[2]string{"data", fmt.Sprintf("%d checked, %d not kept here, %d erased", found.PayloadsChecked, found.PayloadsElsewhere, found.PayloadsErased)},
		[2]string{"public key", keyFrom})
	if found.CustomerID == audit.Everyone {
		facts = append(facts, [2]string{"customers", strconv.Itoa(found.Customers)})
	}
	r.Facts(facts...)
	if found.Whole() {
		return
	}
	r.Heading("Findings", strconv.FormatInt(int64(len(found.Findings))+found.Unlisted, 10))
	for i := range found.Findings {
		r.Line("%s %s", red().Render(string(found.Findings[i].Code)), printable(found.Findings[i].Message))
	}
	if found.Unlisted > 0 {
		r.Line("%s and %d more", ellipsis, found.Unlisted)
	}
}
