package recipe_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
)

// TestKindsAboutTheCustomer is about the steps that change state and store, write notes, and charge.
func TestKindsAboutTheCustomer(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
max_credits: 12
steps:
  - {id: put, uses: state.set, with: {total: 1, lead: {name: a}}}
  - {id: merge, uses: state.merge, with: {lead: {name: null, mail: "${input.mail}"}, more: null}}
  - {id: get, uses: state.get, with: {field: "${input.field}", default: "${state.lead}"}}
  - {id: read, uses: store.get, with: {key: "leads.${input.place}.last", default: {n: 0}}}
  - {id: keep, uses: store.set, with: {key: leads.berlin.last, value: "${state.lead}", ttl: 720h, if_revision: "${steps.read.output.revision}"}}
  - {id: forget, uses: store.delete, with: {key: a.b.c.d, if_revision: 1}, retry: {max_attempts: 5, on: [UNAVAILABLE]}}
  - {id: note, uses: audit.note, with: {action: lead_contacted, message: "Wrote to ${input.mail}", resource_type: lead, resource_id: "${input.mail}", data: {n: 1}}}
  - {id: ask, uses: subscription.check, with: {plan: [pro, team], feature: leads, min_balance: "2.50"}}
  - {id: any, uses: subscription.check, with: {}}
  - {id: bill, uses: subscription.charge, with: {units: "${input.rows}", reason: rows}, price: {per_unit: "0.01", max: 2}}
  - {id: bills, foreach: {in: "${[1, 2]}", as: n, max_items: 10}, uses: subscription.charge, with: {units: "${n}"}, price: {per_unit: 1, max: 1}}
  - {id: clear, uses: state.delete, with: {fields: [total]}}`))
	require.NoError(t, err)
	effects := map[string]bool{}
	for _, step := range r.Steps {
		effects[step.ID] = step.Effect()
		assert.False(t, step.Waits(), step.ID)
		assert.Equal(t, step.Effect(), step.Checkpoint, step.ID)
	}
	assert.Equal(t, map[string]bool{
		"put": false, "merge": false, "get": false, "clear": false, "bill": false, "bills": false,
		"read": true, "keep": true, "forget": true, "note": true, "ask": true, "any": true,
	}, effects)
	assert.Equal(t, []string{"UNAVAILABLE"}, []string{string(r.Step("forget").Retry.On[0])})
	assert.True(t, r.Step("bill").Charges())
	assert.False(t, r.Step("ask").Charges())
	assert.Equal(t, 12*credit.One, r.Quote())

	scope := &recipe.Scope{Input: map[string]any{"rows": 1.5, "mail": "a\nb"}}
	_, err = r.Step("bill").Input(t.Context(), scope)
	require.EqualError(t, err, "/units: got number, want integer")
	_, err = r.Step("note").Input(t.Context(), scope)
	require.ErrorContains(t, err, "/resource_id: 'a\\nb' does not match pattern")
}

func TestProblemsOfKindsAboutTheCustomer(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	const price = ", price: {per_unit: 1, max: 1}"
	for step, want := range map[string]string{ //nolint:gosec // secrets are named, none is here
		"state.get, with: {}":                                            "with/field MISSING_FIELD",
		"state.get, with: {field: a, of: b}":                             "with/of UNKNOWN_FIELD",
		"state.merge, with: {}":                                          "with INVALID_VALUE",
		"state.delete, with: {fields: []}":                               "with/fields INVALID_VALUE",
		"state.delete, with: {fields: ['${input.x}']}":                   "with/fields/0 INVALID_VALUE",
		"store.set, with: {key: a}":                                      "with/value MISSING_FIELD",
		"store.set, with: {value: 1}":                                    "with/key MISSING_FIELD",
		"store.set, with: {key: a, value: null}":                         "with/value INVALID_VALUE",
		"store.set, with: {key: a, value: 1, ttl: 1d}":                   "with/ttl INVALID_VALUE",
		"store.set, with: {key: a, value: 1, ttl: -1s}":                  "with/ttl INVALID_VALUE",
		"store.set, with: {key: a, value: 1, ttl: 60}":                   "with/ttl INVALID_VALUE",
		"store.set, with: {key: a, value: 1, if_revision: -1}":           "with/if_revision INVALID_VALUE",
		"store.set, with: {key: a, value: 1, if_revision: 1.5}":          "with/if_revision INVALID_VALUE",
		"store.set, with: {key: a, value: '${secrets.x}'}":               "with/value UNKNOWN_REFERENCE",
		"store.get, with: {key: a, customer: b}":                         "with/customer UNKNOWN_FIELD",
		"store.delete, with: {key: a, if_revision: 0}":                   "with/if_revision INVALID_VALUE",
		"audit.note, with: {action: a}":                                  "with/message MISSING_FIELD",
		"audit.note, with: {action: A, message: m}":                      "with/action INVALID_VALUE",
		"audit.note, with: {action: a.b, message: m}":                    "with/action INVALID_VALUE",
		"audit.note, with: {action: a, message: ''}":                     "with/message INVALID_VALUE",
		"audit.note, with: {action: a, message: m, data: [1]}":           "with/data INVALID_VALUE",
		"audit.note, with: {action: a, message: m, resource_id: x}":      "with INVALID_VALUE",
		"audit.note, with: {action: a, message: m, resource_type: x}":    "with INVALID_VALUE",
		"audit.note, with: {action: a, message: '${secrets.x}'}":         "with/message UNKNOWN_REFERENCE",
		"subscription.charge, with: {units: 1}":                          "price INVALID_PRICE",
		"subscription.charge, with: {units: 1}, price: 1":                "price INVALID_PRICE",
		"subscription.charge, with: {units: -1}" + price:                 "with/units INVALID_VALUE",
		"subscription.charge, with: {units: 0.5}" + price:                "with/units INVALID_VALUE",
		"subscription.charge, with: {units: '1'}" + price:                "with/units INVALID_VALUE",
		"subscription.charge, with: {}" + price:                          "with/units MISSING_FIELD",
		"subscription.check, with: {plan: ''}":                           "with/plan INVALID_VALUE",
		"subscription.check, with: {plan: []}":                           "with/plan INVALID_VALUE",
		"subscription.check, with: {plan: [a, 'b c']}":                   "with/plan/1 INVALID_VALUE",
		"subscription.check, with: {plan: 1}":                            "with/plan INVALID_VALUE",
		"subscription.check, with: {features: [a]}":                      "with/features UNKNOWN_FIELD",
		"subscription.check, with: {min_balance: -1}":                    "with/min_balance INVALID_VALUE",
		"subscription.check, with: {min_balance: '1e3'}":                 "with/min_balance INVALID_VALUE",
		"subscription.check, with: {min_balance: '0.0000001'}":           "with/min_balance INVALID_VALUE",
		"subscription.check, with: {}, price: {per_unit: 1, max: 1}":     "price INVALID_PRICE",
		"subscription.check, with: {feature: '${secrets.x}'}":            "with/feature UNKNOWN_REFERENCE",
		"store.get, with: {key: a}, retry: {max_attempts: 2, on: [NO]}":  "retry/on/0 INVALID_VALUE",
		"state.get, with: {field: a}, foreach: {in: '${[1]}', as: '1a'}": "foreach/as INVALID_VALUE",
	} {
		got := problemsOf(t, compiler, document("steps: [{id: a, uses: "+step+"}]"))
		require.Len(t, got, 1, step)
		_, problem, _ := strings.Cut(got[0], " /spec/steps/0/")
		assert.Equal(t, want, problem, step)
	}
	for _, key := range []string{"''", "'.'", "a.", ".a", "a..b", "a.b.c.d.e", "'*'", "'>'", "'a.>'", "a b", "ä", "-a", "a._b", `"a\n"`} {
		for _, kind := range []string{"store.set", "store.get", "store.delete"} {
			value := ""
			if kind == "store.set" {
				value = ", value: 1"
			}
			got := problemsOf(t, compiler, document("steps: [{id: a, uses: "+kind+", with: {key: "+key+value+"}}]"))
			require.Len(t, got, 1, key)
			assert.Contains(t, got[0], "with/key INVALID_VALUE", key)
		}
	}
}
