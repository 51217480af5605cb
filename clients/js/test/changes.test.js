import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyUpdate, ticketRoom } from '../dist/index.js';

const [one, two] = [{ id: '1', updated_at: '2025-01-02' }, { id: '2', updated_at: '2025-01-02' }];
const newer = { id: '1', updated_at: '2025-01-03', title: 'new' };

test('lists follow what happens', () => {
  assert.deepEqual(applyUpdate([one], { action: 'created', data: two }), [two, one]);
  assert.deepEqual(applyUpdate([one], { action: 'created', data: two }, { at: 'end' }), [one, two]);
  assert.deepEqual(applyUpdate([one, two], { action: 'updated', data: newer }), [newer, two]);
  assert.deepEqual(applyUpdate([two], { action: 'updated', data: one }), [one, two]);
  assert.deepEqual(applyUpdate([one, two], { action: 'deleted', data: { ...one, deleted_at: '' } }), [two]);
  assert.deepEqual(applyUpdate([one, two], { action: 'removed', data: { id: '2' } }), [one]);
});

test('what was fetched meanwhile and is newer stays, and the list is the same one', () => {
  for (const [list, update] of [
    [[newer, two], { action: 'updated', data: one }],
    [[one], { action: 'removed', data: { id: '2' } }],
  ]) {
    assert.equal(applyUpdate(list, update), list);
  }
});

test('a list is never changed in place', () => {
  const list = Object.freeze([one]);
  assert.notEqual(applyUpdate(list, { action: 'created', data: two }), list);
});

test('rooms', () => assert.equal(ticketRoom('7'), 'ticket:7'));
