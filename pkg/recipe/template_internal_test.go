package recipe

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSplitTemplate(t *testing.T) {
	t.Parallel()
	text := func(s string) segment { return segment{text: s} }
	expression := func(s string) segment { return segment{text: s, isExpression: true} }
	for s, want := range map[string][]segment{
		"":                        {text("")},
		"plain":                   {text("plain")},
		"${a}":                    {expression("a")},
		"${}":                     {expression("")},
		"x${a}y${b}":              {text("x"), expression("a"), text("y"), expression("b")},
		"${a}${b}":                {expression("a"), expression("b")},
		"$${a}":                   {text("${a}")},
		"$$${a}":                  {text("$${a}")},
		"$$":                      {text("$$")},
		"$":                       {text("$")},
		"$a {b} $":                {text("$a {b} $")},
		"5$ ${a}":                 {text("5$ "), expression("a")},
		"${{'a': {}}}":            {expression("{'a': {}}")},
		"${'}'}":                  {expression("'}'")},
		`${"}\"}"}`:               {expression(`"}\"}"`)},
		`${'it\'s }'}x`:           {expression(`'it\'s }'`), text("x")},
		`${'"}'}`:                 {expression(`'"}'`)},
		`${r'\'}`:                 {expression(`r'\'`)},
		`${R"\"}`:                 {expression(`R"\"`)},
		`${br"\"}`:                {expression(`br"\"`)},
		`${rb'\' + b'}'}`:         {expression(`rb'\' + b'}'`)},
		`${'''}'}''}'''}`:         {expression(`'''}'}''}'''`)},
		"${\"\"\"\n}\"}\"\"\"}":   {expression("\"\"\"\n}\"}\"\"\"")},
		`${''}`:                   {expression(`''`)},
		"${a // not the end }\n}": {expression("a // not the end }\n")},
		"${a / b}":                {expression("a / b")},
		"${'${'}":                 {expression("'${'")},
		"ü${ü}ü":                  {text("ü"), expression("ü"), text("ü")},
	} {
		got, err := splitTemplate(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"${", "${a", "x ${'}", `${"\"}`, "${{}", "${a // }", "${'''}'}", "$$${${"} {
		_, err := splitTemplate(s)
		assert.Error(t, err, s)
	}
}

// TestLiteralRoundTrip says that every text can be written as a literal.
func TestLiteralRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[${}'"a]{0,12}`)).Draw(t, "text")
		got, err := splitTemplate(strings.ReplaceAll(s, "${", "$${"))
		require.NoError(t, err)
		assert.Equal(t, []segment{{text: s}}, got)
	})
}

// FuzzTemplate says that taking a template apart loses nothing: put together again it is the same text.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"${a}", "$${a}", "x${'}'}y", `${r"\"}`, "${'''a'}'''}", "${a // b\n}", "${{'a': 1}}$", "$$${"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		segments, err := splitTemplate(s)
		if err != nil {
			return
		}
		var again strings.Builder
		for i, part := range segments {
			if part.isExpression {
				again.WriteString("${" + part.text + "}")
				continue
			}
			assert.False(t, i > 0 && !segments[i-1].isExpression, "two literals in a row")
			again.WriteString(strings.ReplaceAll(part.text, "${", "$${"))
		}
		assert.Equal(t, s, again.String())
	})
}

// TestEveryFunctionIsClassified fails when a new version of CEL brings a function that nobody has thought about: one that takes
// long, or builds something large, within a single call needs an intrinsic.
func TestEveryFunctionIsClassified(t *testing.T) {
	t.Parallel()
	env, err := newEnvironment()
	require.NoError(t, err)
	harmless := strings.Fields(`
		!_ -_ @not_strictly_false __not_strictly_false__ _&&_ _||_ _?_:_
		_<_ _<=_ _>_ _>=_ _[_] _[?_] _?._ _in_ in
		bool bytes double dyn duration int type uint
		contains startsWith endsWith trim lowerAscii upperAscii reverse strings.quote base64.decode base64.encode
		first last hasValue or orValue value unwrapOpt optional.none optional.of optional.ofNonZeroValue optional.unwrap
		math.@max math.@min math.abs math.ceil math.floor math.isFinite math.isInf math.isNaN math.round math.sign math.sqrt math.trunc
		cel.@block matches`)
	intrinsics := newIntrinsics()
	for name := range env.Functions() {
		_, isIntrinsic := intrinsics[name]
		assert.NotEqual(t, isIntrinsic, slices.Contains(harmless, name), name)
	}
	for name := range intrinsics {
		assert.Contains(t, env.Functions(), name)
	}
}
