package recipe_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

func TestMeteredPrice(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
max_credits: 3.03
steps:
  - {id: once, uses: ai.chat, with: {prompt: x}, price: {per_1k_input_tokens: "0.001", per_1k_output_tokens: 0.002, max: "0.03"}}
  - id: each
    foreach: {in: "${[1, 2]}", as: i, max_items: 100}
    uses: worker.shout
    with: {x: "${i}"}
    price: {per_unit: 1, max: "0.03"}
  - {id: free, uses: ai.chat, with: {prompt: x}}`))
	require.NoError(t, err)
	assert.Equal(t, recipe.Price{
		Rates: []recipe.Rate{
			{Meter: recipe.MeterInputTokens, Amount: 1000, Per: 1000}, {Meter: recipe.MeterOutputTokens, Amount: 2000, Per: 1000},
		},
		Max: 30_000,
	}, r.Steps[0].Price)
	assert.True(t, r.Steps[0].Price.Metered())
	assert.Equal(t, credit.Micro(30_000), r.Steps[0].Price.Quote())
	assert.Equal(t, []recipe.Rate{{Meter: recipe.MeterUnits, Amount: credit.One, Per: 1}}, r.Steps[1].Price.Rates)
	assert.False(t, r.Steps[2].Price.Metered())
	assert.Zero(t, r.Steps[2].Price.Quote())
	assert.Equal(t, credit.Micro(3_030_000), r.Quote(), "a foreach can cost the most of each item")
}

func TestCharge(t *testing.T) {
	t.Parallel()
	tokens := func(in, out int64) *event.Usage { return &event.Usage{InputTokens: in, OutputTokens: out} }
	price := recipe.Price{Rates: []recipe.Rate{
		{Meter: recipe.MeterInputTokens, Amount: 1000, Per: 1000}, {Meter: recipe.MeterOutputTokens, Amount: 2001, Per: 1000},
	}, Max: 30_000}
	for name, test := range map[string]struct {
		usage *event.Usage
		want  credit.Micro
		above bool
	}{
		"nothing measured":  {nil, 0, false},
		"nothing used":      {tokens(0, 0), 0, false},
		"one token":         {tokens(1, 0), 1, false},
		"rounded up":        {tokens(0, 1), 3, false},
		"each rounded up":   {tokens(1, 1), 4, false},
		"more":              {tokens(1500, 2000), 5502, false},
		"just the most":     {tokens(30_000, 0), 30_000, false},
		"above the most":    {tokens(30_001, 0), 30_000, true},
		"above it together": {tokens(29_999, 1), 30_000, true},
		"beyond all bounds": {tokens(math.MaxInt64, math.MaxInt64), 30_000, true},
		"below nothing":     {tokens(-5, math.MinInt64), 0, false},
		"of another meter":  {&event.Usage{Units: 1000}, 0, false},
	} {
		charge, above := price.Charge(test.usage)
		assert.Equal(t, test.want, charge, name)
		assert.Equal(t, test.above, above, name)
	}
	free := recipe.Price{Rates: []recipe.Rate{{Meter: recipe.MeterUnits, Per: 1}}}
	charge, above := free.Charge(&event.Usage{Units: math.MaxInt64})
	assert.Zero(t, charge)
	assert.False(t, above, "what costs nothing is never too much")
}

// TestChargeIsExact compares with arithmetic that knows no bounds.
func TestChargeIsExact(t *testing.T) {
	t.Parallel()
	amounts := rapid.Int64Range(0, int64(1_000_000_000*credit.One))
	used := rapid.OneOf(rapid.Int64(), rapid.Int64Range(0, 5000))
	rapid.Check(t, func(t *rapid.T) {
		price := recipe.Price{Max: credit.Micro(amounts.Draw(t, "max"))}
		usage := event.Usage{InputTokens: used.Draw(t, "input"), OutputTokens: used.Draw(t, "output"), Units: used.Draw(t, "units")}
		exact := new(big.Int)
		for _, meter := range []recipe.Meter{recipe.MeterInputTokens, recipe.MeterOutputTokens, recipe.MeterUnits} {
			if !rapid.Bool().Draw(t, string(meter)) {
				continue
			}
			_, per := meter.Unit()
			amount := amounts.Draw(t, "amount of "+string(meter))
			price.Rates = append(price.Rates, recipe.Rate{Meter: meter, Amount: credit.Micro(amount), Per: per})
			n := map[recipe.Meter]int64{
				recipe.MeterInputTokens: usage.InputTokens, recipe.MeterOutputTokens: usage.OutputTokens, recipe.MeterUnits: usage.Units,
			}[meter]
			product := new(big.Int).Mul(big.NewInt(max(0, n)), big.NewInt(amount))
			product.Add(product, big.NewInt(per-1))
			exact.Add(exact, product.Div(product, big.NewInt(per)))
		}
		charge, above := price.Charge(&usage)
		require.Equal(t, exact.Cmp(big.NewInt(int64(price.Max))) > 0, above)
		if above {
			require.Equal(t, price.Max, charge)
		} else {
			require.Equal(t, exact.Int64(), int64(charge))
		}
	})
}

func TestMeteredPriceProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	chat := func(price string) string {
		return "steps: [{id: a, uses: ai.chat, with: {prompt: x}, price: " + price + "}]"
	}
	const at = "5:60 /spec/steps/0/price"
	for name, test := range map[string]struct {
		spec string
		want []string
	}{
		"kind without meters": {
			"steps: [{id: a, uses: action.http, with: {url: 'https://a.b'}, price: {per_unit: 1, max: 1}}]",
			[]string{"5:73 /spec/steps/0/price INVALID_PRICE"},
		},
		"kind that does not exist": {
			"steps: [{id: a, uses: ai.think, with: {prompt: x}, price: {per_unit: 1, max: 1}}]",
			[]string{"5:25 /spec/steps/0/uses UNKNOWN_KIND"},
		},
		"meter of another kind": {chat("{per_unit: 1, max: 1}"), []string{"5:61 /spec/steps/0/price/per_unit UNKNOWN_FIELD", at + " INVALID_PRICE"}},
		"no such meter": {
			chat("{per_1k_input_tokens: 1, per_call: 1, max: 1}"), []string{"5:85 /spec/steps/0/price/per_call UNKNOWN_FIELD"},
		},
		"without max":       {chat("{per_1k_input_tokens: 1}"), []string{at + "/max MISSING_FIELD"}},
		"nothing but max":   {chat("{max: 1}"), []string{at + " INVALID_PRICE"}},
		"nothing":           {chat("{}"), []string{at + "/max MISSING_FIELD", at + " INVALID_PRICE"}},
		"negative":          {chat("{per_1k_input_tokens: -1, max: 1}"), []string{"5:82 /spec/steps/0/price/per_1k_input_tokens INVALID_PRICE"}},
		"negative max":      {chat("{per_1k_input_tokens: 1, max: -1}"), []string{"5:90 /spec/steps/0/price/max INVALID_PRICE"}},
		"too many places":   {chat("{per_1k_input_tokens: 0.0000001, max: 1}"), []string{"5:82 /spec/steps/0/price/per_1k_input_tokens INVALID_PRICE"}},
		"in words":          {chat("{per_1k_input_tokens: few, max: 1}"), []string{"5:82 /spec/steps/0/price/per_1k_input_tokens INVALID_PRICE"}},
		"an expression":     {chat("{per_1k_input_tokens: 1, max: '${input.x}'}"), []string{"5:90 /spec/steps/0/price/max INVALID_PRICE"}},
		"a list":            {chat("[1]"), []string{at + " WRONG_TYPE"}},
		"beyond all bounds": {chat("{per_1k_input_tokens: 1, max: 1000000001}"), []string{"5:90 /spec/steps/0/price/max INVALID_PRICE"}},
		"too much for all items": {
			"steps: [{id: a, foreach: {in: '${[1]}', as: i, max_items: 1000}, uses: ai.chat, with: {prompt: x}, " +
				"price: {per_1k_input_tokens: 1, max: 1000001}}]",
			[]string{"5:109 /spec/steps/0/price INVALID_PRICE"},
		},
		"above max_credits": {
			"max_credits: 0.99\n" + chat("{per_1k_input_tokens: 1, max: 1}"), []string{"5:16 /spec/max_credits PRICE_ABOVE_MAX"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.ElementsMatch(t, test.want, problemsOf(t, compiler, document(test.spec)))
		})
	}
}

func TestMeteredPriceMessages(t *testing.T) {
	t.Parallel()
	_, err := newCompiler(t).Load(document(`
steps:
  - {id: a, uses: state.set, with: {x: 1}, price: {per_unit: 1, max: 2}}
  - {id: b, uses: ai.chat, with: {prompt: x}, price: {max: 2}}`))
	require.EqualError(t, err,
		`6:53: /spec/steps/0/price: state.set measures nothing: give a fixed amount such as "0.02" (INVALID_PRICE)`+"\n"+
			`7:56: /spec/steps/1/price: give at least one of per_1k_input_tokens, per_1k_output_tokens (INVALID_PRICE)`)
}
