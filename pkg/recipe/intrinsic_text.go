package recipe

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// replace refuses a result that is too large before it is built.
func replace(m meter, args []ref.Val, next implementation) ref.Val {
	s, ok := args[0].(types.String)
	old, oldOK := args[1].(types.String)
	replacement, newOK := args[2].(types.String)
	if ok && oldOK && newOK {
		if len(s)+strings.Count(string(s), string(old))*len(replacement) > maxResultBytes {
			return types.WrapErr(errTooLarge)
		}
	}
	return countsWhole(m, args, next)
}

// indexOf pays for CEL's way of searching, which compares at every character.
func indexOf(m meter, args []ref.Val, next implementation) ref.Val {
	const comparisonsPerUnit = 100
	s, ok := args[0].(types.String)
	part, partOK := args[1].(types.String)
	if ok && partOK {
		m.charge(len(s) * len(part) / comparisonsPerUnit)
	}
	return countsWhole(m, args, next)
}

// join refuses a result that is too large before it is built.
func join(m meter, args []ref.Val, next implementation) ref.Val {
	list, ok := args[0].(traits.Lister)
	if !ok {
		return next(args)
	}
	separator := types.String("")
	if len(args) == 2 {
		separator, _ = args[1].(types.String)
	}
	m.charge(length(list))
	size := length(list) * len(separator)
	for it := list.Iterator(); it.HasNext() == types.True && size <= maxResultBytes; {
		element, _ := it.Next().(types.String)
		size += len(element)
	}
	if size > maxResultBytes {
		return types.WrapErr(errTooLarge)
	}
	return next(args)
}

// match is a call of matches. A pattern that is a literal is compiled once.
type match struct {
	compiled     *regexp.Regexp
	instructions int
}

func newMatch(args []interpreter.InterpretableV2) (*match, error) {
	if literal, ok := args[1].(interpreter.InterpretableConst); ok {
		if pattern, ok := literal.Value().(types.String); ok {
			return compileMatch(string(pattern))
		}
	}
	return nil, nil
}

func compileMatch(pattern string) (*match, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > maxRegexProgram {
		return nil, fmt.Errorf("the regular expression is too large: %d instructions, at most %d", len(program.Inst), maxRegexProgram)
	}
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return &match{compiled: compiled, instructions: len(program.Inst)}, nil
}

// call pays for the worst case of Go's regular expressions: every instruction of the pattern at every character.
func (x *match) call(m meter, args []ref.Val, _ implementation) ref.Val {
	s, ok := args[0].(types.String)
	pattern, patternOK := args[1].(types.String)
	if !ok || !patternOK {
		return noOverload(overloads.Matches, args)
	}
	if x == nil {
		m.charge(len(pattern))
		var err error
		if x, err = compileMatch(string(pattern)); err != nil {
			return types.WrapErr(err)
		}
	}
	m.charge(len(s) * x.instructions / bytesPerUnit)
	return types.Bool(x.compiled.MatchString(string(s)))
}
