package sandbox

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed page.html
var pageSource string

//go:embed page.css
var pageStyle string

// page shows the mailbox to people.
type page struct {
	template *template.Template
	policy   string
}

func newPage() (*page, error) {
	parsed, err := template.New("mailbox").Funcs(template.FuncMap{
		"list": func(items []string) string { return strings.Join(items, ", ") },
		"time": func(t time.Time) string { return t.Format("2006-01-02 15:04:05 UTC") },
		"size": sizeText,
	}).Parse(pageSource)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(pageStyle))
	return &page{template: parsed, policy: fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; "+
		"frame-ancestors 'none'", base64.StdEncoding.EncodeToString(digest[:]))}, nil
}

func (s *sandbox) servePage(w http.ResponseWriter, r *http.Request) {
	var text bytes.Buffer
	err := s.page.template.Execute(&text, map[string]any{
		"Mailbox": s.mailbox.contents(), "SMTP": s.config.SMTPAddr, "Still": r.URL.Query().Has("still"),
		"Style": template.CSS(pageStyle), //nolint:gosec // it is ours, and its digest is in the policy
	})
	if err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", s.page.policy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	_, _ = text.WriteTo(w)
}

func sizeText(bytes int64) string {
	const kib, mib = 1 << 10, 1 << 20
	switch {
	case bytes < kib:
		return fmt.Sprintf("%d bytes", bytes)
	case bytes < mib:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/kib)
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/mib)
}
