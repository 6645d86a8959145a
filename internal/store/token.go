// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Token numbers the incarnations of a job from 1. 0 is none.
type Token uint64

const tokenPrefix = "token."

func tokenName(t Token) string { return tokenPrefix + strconv.FormatUint(uint64(t), 10) }

func parseToken(name string) (Token, bool) {
	n, ok := strings.CutPrefix(name, tokenPrefix)
	t, err := strconv.ParseUint(n, 10, 64)
	return Token(t), ok && err == nil && t > 0 && tokenName(Token(t)) == name
}

// Current returns the newest token, 0 before the first.
func (s *Store) Current() (Token, error) {
	tokens, err := s.tokens()
	if err != nil {
		return 0, err
	}
	var newest Token
	for _, t := range tokens {
		newest = max(newest, t)
	}
	return newest, nil
}

func (s *Store) tokens() ([]Token, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var tokens []Token
	for _, name := range names {
		if t, ok := parseToken(name); ok {
			tokens = append(tokens, t)
		}
	}
	return tokens, nil
}

func (s *Store) names() ([]string, error) {
	d, err := os.Open(s.dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return names, nil
}

// Take begins an incarnation: it takes the next token, durably, puts an end to
// what older incarnations may still be writing, and records the holder.
//
// Precondition: the caller has the lock.
func (s *Store) Take(holder Holder) (Token, error) {
	tok, err := s.nextToken()
	if err != nil {
		return 0, err
	}
	if err := s.fence(tok); err != nil {
		return 0, err
	}
	holder.Token = tok
	return tok, s.SetHolder(holder)
}

// nextToken creates an empty file, exclusively: no crash can tear it, and no
// two can have the same one even where the lock does not work.
func (s *Store) nextToken() (Token, error) {
	for {
		t, err := s.Current()
		if err != nil {
			return 0, err
		}
		t++
		path := s.path(tokenName(t))
		err = s.fs.WriteNew(path, nil)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = s.fs.Sync(s.dir)
		}
		if err != nil {
			return 0, WriteError(path, err)
		}
		return t, nil
	}
}

// fence removes the traces of older incarnations: their pending images first.
func (s *Store) fence(tok Token) error {
	if err := s.removeLeftovers(); err != nil {
		return err
	}
	tokens, err := s.tokens()
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t < tok {
			if err := s.fs.Remove(s.path(tokenName(t))); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return WriteError(s.path(tokenName(t)), err)
			}
		}
	}
	return nil
}

// checkToken says ErrStale to all but the newest incarnation.
func (s *Store) checkToken(tok Token) error {
	newest, err := s.Current()
	if err != nil {
		return err
	}
	if tok != newest {
		return fmt.Errorf("%s: token %d, newest %d: %w", s.dir, tok, newest, ErrStale)
	}
	return nil
}
