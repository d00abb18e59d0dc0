// Package recipe holds everything about a recipe document that both the catalogue (which checks it when it is published) and the
// executor (which runs it) need. It reads bytes and values only: no network, no files, no clock.
//
// # Model
//
// A document is YAML or JSON, up to [MaxDocumentBytes]. [Compiler.Load] turns it into a [Recipe] or reports every [Problem] in
// it at once, with path, line and column: the JSON Schemas of input and output and every expression are compiled, so that what
// can be known before anything runs is known when the recipe is published. A Recipe is immutable and safe for concurrent use; an
// execution pins one and evaluates its templates over a [Scope] of its own.
//
// The steps of a recipe run in the order of its [Stage] list: one step after the other, a step with a [ForEach] once for each item,
// branches at the same time. What a step may read is what has ended for certain when it runs: the steps before it, and of a parallel
// group around it only its own branch. docs/recipes.md teaches the format.
//
// # Templates and expressions
//
// A string may hold CEL expressions: "${input.city}". A string that is nothing but one expression (and the newline of a YAML
// block) takes the value and the type of that expression; in mixed text each value is written as text (a string as it is,
// anything else as JSON), and null is an error there, because a URL or a mail with a silent gap is worse than a failed step.
// "$${" stands for a literal "${". Keys are never templates.
//
// In scope are input, state, steps.<id>.output (.outputs of a step with a foreach), .status and .error (steps["my-step"] where the id
// has a dash), vars.<name>, execution.id and execution.customer, and CEL's own functions with the extensions for strings, lists, math,
// sets, encoders, bindings, optionals (input.?city.orValue("")) and two-variable comprehensions. Inside with there are also the item of
// the step's foreach and its index, and secrets.<name> where the component acts outside: everything else is written down, so that
// secrets would be, too.
//
// # Numbers
//
// JSON has one kind of number and so has a recipe: a number that comes out of the scope is a CEL double, whether or not it has
// a fraction, so that the type of an expression never depends on the value. Integer literals and sizes are CEL ints. The two mix
// freely in comparisons and in + - * / % of values that come out of the scope (9/2 is 4.5 when one side is a JSON number; it is 4
// only between two ints, as in CEL), whole doubles are accepted where a function counts (slice, substring, lists.range), and a
// whole double is written without a fraction. Every number in a result is a float64.
//
// # Limits
//
// Recipe authors are not trusted. The size of a document, its nesting, its steps and its expressions are bounded when it is
// published; the cost and the size of what an expression builds are bounded when it runs (EXPRESSION_LIMIT), and a
// cancelled context stops it.
package recipe
