package cli

import (
	"fmt"
	"strings"

	"github.com/galley-engine/galley/cmd/galley/internal/bootstrap"
)

// suggestion is what the lines to try next depend on.
type suggestion struct {
	url, nats, keyFile string
}

const defaultNATS = "nats://127.0.0.1:4222"

// suggest prints lines that can be copied and run: over HTTP, over NATS, and with this program.
func (a *app) suggest(s suggestion) {
	server := ""
	if s.nats != defaultNATS {
		server = " -s " + s.nats
	}
	recipe := fmt.Sprintf(`"agent_id": "%s", "recipe_id": "%s"`, bootstrap.Agent, bootstrap.Recipe)
	a.report.Heading("Try next", "")
	a.report.Commands(
		[2]string{"run the recipe over HTTP", fmt.Sprintf(`curl -s %s/api/v1/recipes/execute \
  -H "Authorization: Bearer $(cat %s)" \
  -H 'Content-Type: application/json' \
  -d '{%s, "customer_id": "%s",
       "input_data": {"search_query": "plumbers in seattle"}}'`, s.url, quote(s.keyFile), recipe, bootstrap.Customer)},
		[2]string{
			"watch executions end, with any NATS client",
			fmt.Sprintf(`nats%s sub 'galley.execution.*.%s.*.completed'`, server, bootstrap.Customer),
		},
		[2]string{"ask for one over NATS", fmt.Sprintf(`nats%s pub galley.run.request.%s \
  '{%s,
    "input_data": {"search_query": "bakeries in texas"}}'`, server, bootstrap.Customer, recipe)},
	)
}

// quote makes a path one word for a shell.
func quote(path string) string {
	if !strings.ContainsAny(path, " \t\n'\"\\$`&|;<>()*?[]#~!{}") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
