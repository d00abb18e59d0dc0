package main

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.start(t)
	out := i.succeed(t, "keys", "create", "cust_001", "ci")
	found := regexp.MustCompile(`(?s)key +(key_[0-9a-f]+)\n +API key +(gk_\S+)\n.*not shown again`).FindStringSubmatch(out)
	require.Len(t, found, 3, out)
	id, key := found[1], found[2]
	as := []string{"credits", "--api-key", key}
	assert.Contains(t, i.succeed(t, as...), "cust_001")

	out = i.succeed(t, "keys", "list", "cust_001")
	assert.Regexp(t, `(?m)^ +`+id+` +ci +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$`, out)
	assert.NotContains(t, out, key)
	assert.NotContains(t, i.succeed(t, "audit"), key)
	assert.Equal(t, "  "+id+" is revoked\n", i.succeed(t, "keys", "revoke", "cust_001", id))
	assert.Regexp(t, id+` +ci +\d{4}.* +\d{4}-\d\d-\d\d`, i.succeed(t, "keys", "cust_001"))

	for want, args := range map[string][]string{
		"the API key is not known":       as,
		`there is no API key "key_0"`:    {"keys", "revoke", "cust_001", "key_0"},
		`there is no customer "nobody"`:  {"keys", "create", "nobody", "ci"},
		"expected \"<customer> <name>\"": {"keys", "create"},
		"FORBIDDEN":                      {"keys", "list", "cust_001", "--key-file", i.dir + "/demo.key"},
	} {
		out, code := i.run(t, args...)
		assert.NotZero(t, code)
		assert.Contains(t, out, want)
	}
}
