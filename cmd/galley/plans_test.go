package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPlans(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.start(t)
	starter := filepath.Join("..", "..", "deploy", "plans", "starter.yaml")
	assert.Contains(t, i.succeed(t, "plans"), "there are no plans")
	assert.Contains(t, i.succeed(t, "plans", "publish", starter), "starter version 1")
	assert.Contains(t, i.succeed(t, "plans", "publish", starter), "starter version 1", "the same content is the same version")
	file := filepath.Join(t.TempDir(), "plan.yaml")
	publish := func(text string) []string {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return []string{"plans", "publish", file}
	}
	assert.Contains(t, i.succeed(t, publish("{plan_id: big, name: Big, monthly_credits: 1000}")...), "big version 1")
	assert.Regexp(t, `(?s)big +1 .*starter +1 +Starter +500 +up to 100 is carried over +month 19.00 EUR`, i.succeed(t, "plans", "list"))
	for text, want := range map[string]string{
		"{plan_id: big, name: Big, monthly_credits: 0.0000001}":         "/monthly_credits must be an amount",
		"{plan_id: big, name: Big, monthly_credits: 2000, version: 1}":  "what is published is not edited",
		"{plan_id: big, name: Big, monthly_credits: 2000, version: 7}":  "the next version of plan big is 2",
		"{plan_id: big, name: Big, monthly_credits: 2000, coupon: yes}": "/coupon there is no such field here",
	} {
		out, code := i.run(t, publish(text)...)
		assert.Equal(t, 1, code)
		assert.Contains(t, out, want)
	}

	out := i.succeed(t, "subscription", "set", "cust_001", "starter", "--anchor-day", "31", "--time-zone", "Europe/Berlin")
	assert.Regexp(t, `(?s)plan +starter version 1.*features +exports, leads.*balance +5\d\d\..*period +1, .*renewed +on day 31, Europe/Berlin`, out)
	assert.Regexp(t, `overdraft +5 credits`, i.succeed(t, "credits"))
	limits := func(want string, args ...string) {
		t.Helper()
		i.eventually(t, want, func() bool {
			out := i.succeed(t, append([]string{"customers", "limits", "cust_001"}, args...)...)
			return regexp.MustCompile(want).MatchString(out)
		})
	}
	limits(`(?s)executions +10 at the same time.*what the plan allows`)
	limits(`(?s)executions +20 at the same time.*set for the customer.*plan +10`, "--max-concurrency", "20")
	limits(`(?s)executions +10 at the same time.*what the plan allows`, "--max-concurrency", "none")
	out, code := i.run(t, "customers", "limits", "cust_001", "--max-concurrency", "many")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "must be a whole number or none")
	assert.Contains(t, i.succeed(t, "subscription", "set", "cust_001", "big"), "big version 1")
	limits(`any number at the same time`)
	assert.Regexp(t, `then +plan starter version 1`, i.succeed(t, "subscription", "set", "cust_001", "starter"))
	assert.Regexp(t, `then +cancelled`, i.succeed(t, "subscription", "cancel", "cust_001"))
	assert.Regexp(t, `cust_001 +cancelled`, i.succeed(t, "subscription", "cancel", "cust_001", "--now"))
	assert.Contains(t, i.succeed(t, "plans", "retire", "starter"), "starter takes no new subscriptions")
	out, code = i.run(t, "subscription", "set", "cust_001", "starter")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "plan starter is retired")
	assert.Contains(t, i.succeed(t, "plans", "show", "starter"), "retired")
	assert.Contains(t, i.succeed(t, "billing", "reconcile"), "0 differences")
	for _, action := range []string{"subscription.created", "subscription.changed", "subscription.cancelled"} {
		i.eventually(t, action, func() bool { return strings.Contains(i.succeed(t, "audit"), action) })
	}
}
