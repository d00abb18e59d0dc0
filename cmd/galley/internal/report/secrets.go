package report

import (
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

// Secrets writes a list of secrets.
func (r *Report) Secrets(secrets []client.Secret) {
	if len(secrets) == 0 {
		r.Line("there are no secrets")
		return
	}
	rows := make([][]string, len(secrets))
	for i, s := range secrets {
		rows[i] = []string{s.Name, s.UpdatedAt.UTC().Format(time.DateTime), s.CreatedAt.UTC().Format(time.DateTime)}
	}
	table(r.w, []column{{title: "secret"}, {title: "set", style: quiet}, {title: "created", style: quiet}}, rows)
}
