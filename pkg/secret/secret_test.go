package secret

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func keys(t require.TestingT, texts ...string) Keys {
	parsed, err := ParseKeys(strings.Join(texts, ","))
	require.NoError(t, err)
	return parsed
}

func TestSealsForOnePlace(t *testing.T) {
	t.Parallel()
	k := keys(t, NewKey())
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.String().Draw(t, "value")
		id, sealed, err := k.seal("alice/token", value)
		require.NoError(t, err)
		opened, err := k.open("alice/token", id, sealed)
		require.NoError(t, err)
		require.Equal(t, value, opened)
		_, err = k.open("bob/token", id, sealed)
		require.ErrorIs(t, err, ErrUnreadable)

		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "at")] ^= 1
		_, err = k.open("alice/token", id, sealed)
		require.ErrorIs(t, err, ErrUnreadable)
	})
}

func TestSealsDifferentlyEachTime(t *testing.T) {
	t.Parallel()
	k := keys(t, NewKey())
	_, first, err := k.seal("a/b", "value")
	require.NoError(t, err)
	_, second, err := k.seal("a/b", "value")
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	assert.NotContains(t, string(first), "value")
}

func TestRotation(t *testing.T) {
	t.Parallel()
	first, second := NewKey(), NewKey()
	before, during, after := keys(t, first), keys(t, second, first), keys(t, second)
	id, old, err := before.seal("a/b", "value")
	require.NoError(t, err)
	opened, err := during.open("a/b", id, old)
	require.NoError(t, err)
	assert.Equal(t, "value", opened)

	_, err = after.open("a/b", id, old)
	require.ErrorIs(t, err, ErrUnreadable)
	require.ErrorContains(t, err, `sealed with the key "`+id+`", and GALLEY_SECRETS_KEY holds `+after.names())
	_, err = Keys{}.open("a/b", id, old)
	require.ErrorContains(t, err, "holds no key")

	newID, sealed, err := during.seal("a/b", "value")
	require.NoError(t, err)
	assert.NotEqual(t, id, newID)
	_, err = after.open("a/b", newID, sealed)
	require.NoError(t, err)
}

func TestNoKey(t *testing.T) {
	t.Parallel()
	none, err := ParseKeys("")
	require.NoError(t, err)
	assert.True(t, none.None())
	_, _, err = none.seal("a/b", "value")
	require.ErrorIs(t, err, ErrNoKey)
}

func TestParseKeysRefuses(t *testing.T) {
	t.Parallel()
	key := NewKey()
	for name, text := range map[string]string{
		"no base64": "!" + key[1:], "short": key[4:], "long": key[:40] + key, "empty part": key + ",", "space": key + ", " + NewKey(),
	} {
		_, err := ParseKeys(text)
		require.ErrorContains(t, err, "GALLEY_SECRETS_KEY must hold keys of 32 bytes", name)
		assert.NotContains(t, err.Error(), key[5:20])
	}
}

func TestNamesAndValues(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{
		"a": true, "Z9_": true, strings.Repeat("a", 64): true,
		"": false, "_a": false, "9a": false, "a-b": false, "a.b": false, "a*": false, ">": false, "ä": false, strings.Repeat("a", 65): false,
	} {
		assert.Equal(t, valid, ValidName(name), name)
	}
	assert.True(t, ValidValue(strings.Repeat("x", MaxValue)))
	for _, value := range []string{"", strings.Repeat("x", MaxValue+1), "\xff"} {
		assert.False(t, ValidValue(value))
	}
}
