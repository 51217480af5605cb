import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { HelpdeskError } from '../dist/index.js';
import { fake, joins, settled, token } from './fakes.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1_700_000_000_000 }));
afterEach(() => mock.timers.reset());

const after = async (milliseconds) => {
  mock.timers.tick(milliseconds);
  await settled();
};

describe('signing in', () => {
  test('a token, or a function that gets one', async () => {
    for (const given of ['t1', () => 't1', async () => 't1']) {
      const { client, socket } = fake({ token: given });
      client.connect();
      await socket.letIn();
      assert.deepEqual(socket.sentAuth, [{ token: 't1' }]);
      assert.equal(client.status, 'connected');
    }
  });

  test('a session needs none', async () => {
    const { client, socket } = fake();
    client.connect();
    await socket.letIn();
    assert.deepEqual(socket.sentAuth, [{}]);
  });

  test('a refused token is asked for again, and told so; then it is over', async () => {
    const requests = [];
    const { client, socket } = fake({ token: (request) => (requests.push(request.refused), 't') });
    const states = [];
    client.on('status', ({ status, error }) => states.push([status, error?.code]));
    client.connect();
    await socket.refuse('token_expired');
    await after(0);
    assert.equal(socket.connects, 2, 'at once');
    await socket.refuse('token_invalid');
    await after(30_000);
    assert.equal(socket.connects, 3, 'after a while');
    await socket.refuse('token_invalid', 'Not valid.');
    assert.deepEqual(requests, [false, true, true]);
    assert.deepEqual(states.at(-1), ['closed', 'token_invalid']);
    await after(300_000);
    assert.equal(socket.connects, 3);
  });

  for (const code of ['account_inactive', 'origin_not_allowed', 'unauthenticated']) {
    test(`${code} is final`, async () => {
      const { client, socket } = fake({ token: () => 't' });
      client.connect();
      await socket.refuse(code);
      await after(300_000);
      assert.deepEqual([client.status, socket.connects], ['closed', 1]);
    });
  }

  test('a fixed token that is stale is final', async () => {
    const { client, socket } = fake({ token: 't' });
    client.connect();
    await socket.refuse('token_expired');
    assert.equal(client.status, 'closed');
  });

  test('a provider that fails is asked again, later and later', async () => {
    let calls = 0;
    const { client, socket } = fake({
      token: async () => {
        if ((calls += 1) < 3) throw new Error('offline');
        return 't';
      },
    });
    const codes = [];
    client.on('status', ({ error }) => error && codes.push(error.code));
    client.connect();
    await socket.askAuth();
    await after(1_000);
    assert.equal(socket.connects, 2);
    await socket.askAuth();
    await after(999);
    assert.equal(socket.connects, 2, 'a second time not as soon');
    await after(1_001);
    await socket.letIn();
    assert.deepEqual(codes, ['token_unavailable', 'token_unavailable']);
    assert.deepEqual(socket.sentAuth, [{ token: 't' }]);
    assert.equal(client.status, 'connected');
  });

  test('a token that comes when the transport is another one is not sent', async () => {
    const waiting = [];
    const { client, socket } = fake({ token: () => new Promise((resolve) => waiting.push(resolve)) });
    client.connect();
    await socket.askAuth();
    await socket.askAuth(); // the first transport was lost meanwhile
    waiting[0]('old');
    waiting[1]('new');
    await settled();
    assert.deepEqual(socket.sentAuth, [{ token: 'new' }]);
  });

  test('a token is renewed a minute before its end, without a reconnection', async () => {
    const tokens = [token(900, 'a'), token(1_800, 'b')];
    const { client, socket } = fake({ token: () => tokens.shift() ?? token(900, 'c') });
    const second = tokens[1];
    socket.answers.auth = { ok: true };
    client.connect();
    await socket.letIn();
    await after(839_000);
    assert.equal(socket.asked.filter(([name]) => name === 'auth').length, 0);
    await after(2_000);
    assert.deepEqual(socket.asked.at(-1), ['auth', { token: second }]);
    await after(900_000);
    assert.equal(socket.asked.filter(([name]) => name === 'auth').length, 2);
    client.close();
    await after(3_600_000);
    assert.equal(socket.asked.filter(([name]) => name === 'auth').length, 2);
  });

  test('a renewal that fails is tried again while the old token holds', async () => {
    let calls = 0;
    const { client, socket } = fake({
      token: () => {
        calls += 1;
        if (calls === 2) throw new Error('offline');
        return token(900, String(calls));
      },
    });
    socket.answers.auth = { ok: true };
    client.connect();
    await socket.letIn();
    await after(840_001);
    assert.equal(calls, 2);
    await after(30_001);
    assert.equal(socket.asked.at(-1)[0], 'auth');
  });
});

describe('coming back', () => {
  test('every room is joined again, from the last cursor', async () => {
    const { client, socket, told } = fake({ rooms: ['tickets'] });
    client.connect();
    await socket.letIn();
    await client.join('ticket:1');
    assert.deepEqual(joins(socket), [{ room: 'kb' }, { room: 'tickets' }, { room: 'ticket:1' }]);
    await socket.say('ticket.update', { cursor: 20 });
    await socket.lose();
    assert.equal(client.status, 'connecting');
    socket.asked.length = 0;
    await socket.letIn();
    assert.deepEqual(socket.sentAuth.at(-1), { after: 19 });
    assert.deepEqual(joins(socket), [{ room: 'kb' }, { room: 'tickets' }, { room: 'ticket:1' }]);
    assert.deepEqual(told, [['ticket.update', 20]]);
    socket.answers.join = ({ room }) => ({ ok: true, room, cursor: 77 });
    await client.join('ticket:2'); // new: what happened there before is fetched, not told
    assert.deepEqual(joins(socket).slice(-2), [{ room: 'kb' }, { room: 'ticket:2', after: 77 }]);
  });

  test('the second frame of an event that was cut in two is not lost, the first not repeated', async () => {
    const { client, socket, told } = fake();
    client.connect();
    await socket.letIn();
    await socket.say('comment.update', { cursor: 20 });
    await socket.lose();
    await socket.letIn();
    await socket.say('comment.update', { cursor: 20 });
    await socket.say('notification', { cursor: 20 });
    await socket.say('notification', { cursor: 20 });
    assert.deepEqual(told, [['comment.update', 20], ['notification', 20]]);
  });

  test('a replay that is cut off starts over, and shows nothing twice', async () => {
    const { client, socket, told } = fake({ rooms: ['tickets', 'comments'] });
    client.connect();
    await socket.letIn();
    await socket.say('ticket.update', { cursor: 20 });
    await socket.lose();
    // While rooms are replayed, one after the other, cursors jump back.
    socket.answers.join = ({ room }) => (room === 'comments' ? new Promise(() => {}) : { ok: true, room, cursor: 40 });
    await socket.letIn();
    await socket.say('ticket.update', { cursor: 30 });
    await socket.say('ticket.update', { cursor: 40 });
    await socket.lose();
    assert.equal(client.cursor, 19);
    socket.answers.join = ({ room }) => ({ ok: true, room, cursor: 40 });
    await socket.askAuth();
    assert.deepEqual(socket.sentAuth.at(-1), { after: 19 });
    await socket.letIn();
    await socket.say('ticket.update', { cursor: 41 });
    assert.deepEqual(told.map(([, cursor]) => cursor), [20, 30, 40, 41]);
    assert.equal(client.cursor, 40);
  });

  test('what is told while a room is replayed does not move the cursor', async () => {
    const { client, socket } = fake({ rooms: ['tickets'] });
    let answer;
    client.connect();
    await socket.letIn();
    socket.answers.join = () => new Promise((resolve) => (answer = resolve));
    const joining = client.join('comments');
    await settled();
    await socket.say('comment.update', { cursor: 35 });
    assert.equal(client.cursor, 10);
    answer({ ok: true, room: 'comments', cursor: 10 });
    await joining;
    await socket.say('ticket.update', { cursor: 36 });
    assert.equal(client.cursor, 35);
  });

  test('more rooms than may be joined at once', async () => {
    const rooms = Array.from({ length: 60 }, (_, number) => `ticket:${number}`);
    const { client, socket } = fake({ rooms });
    let left = 50;
    socket.answers.join = ({ room }) =>
      left-- > 0
        ? { ok: true, room, cursor: 1 }
        : ((left = 50), { ok: false, error: { code: 'too_many_messages', message: 'Wait.' } });
    client.connect();
    await socket.letIn();
    for (let second = 0; second < 3; second++) await after(1_000);
    assert.equal(client.status, 'connected');
    assert.deepEqual(new Set(joins(socket).map(({ room }) => room)), new Set(['kb', ...rooms]));
  });

  test('a room that is left meanwhile is not joined', async () => {
    const rooms = Array.from({ length: 12 }, (_, number) => `ticket:${number}`);
    const { client, socket } = fake({ rooms });
    let letGo;
    const held = new Promise((resolve) => (letGo = resolve));
    socket.answers.join = async ({ room }) => (room === 'ticket:0' && (await held), { ok: true, room, cursor: 10 });
    client.connect();
    await socket.letIn();
    await client.leave('ticket:11');
    letGo();
    await settled();
    assert.equal(client.status, 'connected');
    assert.equal(joins(socket).some(({ room }) => room === 'ticket:11'), false);
  });

  test('what cannot be caught up with is tried again, later and later', async () => {
    const { client, socket, errors } = fake({ rooms: ['tickets'], backoff: { min: 1_000, max: 8_000 } });
    socket.answers.join = { ok: false, error: { code: 'internal', message: 'Something went wrong here.' } };
    client.connect();
    const waits = [];
    for (let attempt = 1; attempt <= 4; attempt++) {
      await socket.letIn();
      assert.deepEqual([client.status, socket.connected, errors.length], ['connecting', false, attempt]);
      let waited = 0;
      for (; socket.connects === attempt; waited += 100) await after(100);
      waits.push(waited);
    }
    waits.forEach((waited, number) => {
      const longest = 1_000 * 2 ** number;
      assert.ok(waited >= longest / 2 && waited <= longest, `${waited} ms the ${number + 1}. time`);
    });
    socket.answers.join = ({ room }) => ({ ok: true, room, cursor: 10 });
    await socket.letIn();
    assert.equal(client.status, 'connected');
  });

  test('a room that is no longer ours is told of, once', async () => {
    const { client, socket, errors } = fake({ rooms: ['ticket:1', 'tickets'] });
    client.connect();
    await socket.letIn();
    await socket.lose();
    socket.answers.join = ({ room }) =>
      room === 'ticket:1'
        ? { ok: false, error: { code: 'not_found', message: 'Gone.' } }
        : { ok: true, room, cursor: 10 };
    await socket.letIn();
    assert.deepEqual(errors.map(({ code, room }) => [code, room]), [['not_found', 'ticket:1']]);
    await socket.lose();
    await socket.letIn();
    assert.equal(errors.length, 1);
    assert.equal(client.status, 'connected');
  });

  test('a server that ends the connection for good is asked again', async () => {
    const { client, socket } = fake();
    client.connect();
    await socket.letIn();
    await socket.lose('io server disconnect');
    await after(1_000);
    assert.equal(socket.connects, 2);
  });

  test('attempts are spread by chance, and no longer apart than allowed', async () => {
    const delays = new Set();
    for (let one = 0; one < 8; one++) {
      const { client, socket } = fake({ backoff: { min: 1_000, max: 4_000 } });
      client.connect();
      for (let attempt = 0; attempt < 6; attempt++) {
        await socket.refuse('unavailable');
        const before = socket.connects;
        let waited = 0;
        while (socket.connects === before) await after((waited += 40) && 40);
        assert.ok(waited <= 4_040, `${waited} ms`);
        if (attempt === 5) delays.add(waited), assert.ok(waited >= 2_000, `${waited} ms`);
      }
      client.close();
    }
    assert.ok(delays.size > 2);
  });

  test('closed means closed', async () => {
    const { client, socket } = fake();
    client.connect();
    await socket.refuse('unavailable');
    client.close();
    await after(300_000);
    assert.deepEqual([socket.connects, client.status], [1, 'closed']);
    client.connect();
    assert.equal(socket.connects, 2);
  });
});

describe('fetching what is shown', () => {
  test('first of all after the rooms are joined; events wait for it', async () => {
    let fetched;
    const resyncs = [];
    const { client, socket, told } = fake({
      rooms: ['tickets'],
      onResync: (resync) => {
        resyncs.push([resync, joins(socket).length]);
        return new Promise((resolve) => (fetched = resolve));
      },
    });
    client.connect();
    await socket.letIn();
    assert.deepEqual(resyncs, [[{ reason: 'start' }, 2]]);
    await socket.say('ticket.update', { cursor: 11 });
    assert.deepEqual(told, []);
    fetched();
    await settled();
    assert.deepEqual(told, [['ticket.update', 11]]);
    await socket.lose();
    await socket.letIn();
    assert.equal(resyncs.length, 1);
  });

  test('when there is no replay', async () => {
    const seen = [];
    const { client, socket, told } = fake({ onResync: ({ reason, room }) => void seen.push([reason, room]) });
    client.connect();
    await socket.letIn();
    await socket.say('resync_required', { reason: 'cursor_too_old', message: '', cursor: 500 });
    assert.equal(client.cursor, 500);
    await socket.say('resync_required', { reason: 'missed_too_much', message: '', cursor: 600, room: 'tickets' });
    assert.equal(client.cursor, 500);
    await socket.say('resync_required', { reason: 'unknown_cursor', message: '', cursor: 3 });
    assert.equal(client.cursor, 3);
    await socket.say('ticket.update', { cursor: 4 });
    assert.deepEqual(told, [['ticket.update', 4]]);
    const expected = [['start'], ['cursor_too_old'], ['missed_too_much', 'tickets'], ['unknown_cursor']];
    assert.deepEqual(seen, expected.map(([reason, room]) => [reason, room]));
  });

  test('one that fails is told of, and does not stop the events', async () => {
    const { client, socket, told, errors } = fake({ onResync: () => Promise.reject(new Error('offline')) });
    client.connect();
    await socket.letIn();
    await socket.say('ticket.update', { cursor: 11 });
    assert.deepEqual([errors[0].code, errors[0].cause.message], ['resync_failed', 'offline']);
    assert.deepEqual(told, [['ticket.update', 11]]);
  });
});

describe('operations', () => {
  test('a refusal is an error with its code', async () => {
    const { client, socket } = fake();
    client.connect();
    await socket.letIn();
    socket.answers.join = { ok: false, error: { code: 'unknown_room', message: 'There is no such room.' } };
    const error = await client.join('nowhere').catch((it) => it);
    assert.ok(error instanceof HelpdeskError);
    assert.deepEqual([error.code, error.message, error.room], ['unknown_room', 'There is no such room.', 'nowhere']);
    socket.answers.join = ({ room }) => ({ ok: true, room, cursor: 10 });
    await socket.lose();
    socket.asked.length = 0;
    await socket.letIn();
    assert.deepEqual(joins(socket), [{ room: 'kb' }], 'and it is not joined again');
  });

  test('without a connection', async () => {
    const { client } = fake();
    for (const operation of [() => client.typing('1'), () => client.viewing('1'), () => client.readNotification('1')]) {
      await assert.rejects(operation, { name: 'HelpdeskError', code: 'not_connected' });
    }
    await client.join('tickets'); // for when there is one
  });

  test('without an answer', async () => {
    const { client, socket } = fake();
    client.connect();
    await socket.letIn();
    socket.answers['notification.read'] = () => Promise.reject(new Error('operation has timed out'));
    await assert.rejects(client.readNotification('1'), { code: 'timeout' });
  });

  test('a room is left when everybody who joined it has left', async () => {
    const { client, socket } = fake();
    client.connect();
    await socket.letIn();
    await client.join('tickets');
    await client.join('tickets');
    await client.leave('tickets');
    assert.equal(socket.asked.filter(([name]) => name === 'leave').length, 0);
    await client.leave('tickets');
    await client.leave('tickets');
    assert.deepEqual(socket.asked.filter(([name]) => name === 'leave'), [['leave', { room: 'tickets' }]]);
  });

  test('reading', async () => {
    const { client, socket } = fake();
    client.connect();
    await socket.letIn();
    socket.answers['notification.read'] = { ok: true, unread: 3 };
    assert.equal(await client.readNotification('n'), 3);
    assert.deepEqual(socket.asked.at(-1), ['notification.read', { id: 'n' }]);
  });
});

describe('a storage', () => {
  const storage = (entries = {}) => ({
    getItem: (key) => entries[key] ?? null,
    setItem: (key, value) => (entries[key] = value),
  });

  test('keeps the cursor, and what was shown with it', async () => {
    const kept = storage();
    const first = fake({ storage: kept });
    first.client.connect();
    await first.socket.letIn();
    await first.socket.say('comment.update', { cursor: 20 });
    const second = fake({ storage: kept });
    second.client.connect();
    await second.socket.letIn();
    assert.deepEqual(second.socket.sentAuth, [{ after: 19 }]);
    await second.socket.say('comment.update', { cursor: 20 });
    await second.socket.say('notification', { cursor: 20 });
    assert.deepEqual(second.told, [['notification', 20]]);
  });

  for (const value of ['garbage', '{}', '{"after": -1}', '{"after": "7"}', 'null', '{"after": 7, "shown": 3}']) {
    test(`that holds ${value} is as good as none`, async () => {
      const { client, socket } = fake({ storage: storage({ 'helpdesk.cursor': value }) });
      client.connect();
      await socket.letIn();
      assert.deepEqual(socket.sentAuth, [{}]);
    });
  }

  test('that is forbidden is as good as none', async () => {
    const forbidden = () => {
      throw new Error('SecurityError');
    };
    const { client, socket } = fake({ storage: { getItem: forbidden, setItem: forbidden } });
    client.connect();
    await socket.letIn();
    await socket.say('ticket.update', { cursor: 20 });
    assert.equal(client.cursor, 19);
  });
});

describe('looking at a ticket', () => {
  const [ann, ben] = ['Ann', 'Ben'].map((name) => ({ id: name, name, role: 'agent' }));

  test('who is there, who comes, who goes, who writes', async () => {
    const { client, socket } = fake();
    const changes = [];
    socket.answers.viewing = { ok: true, viewers: [ann] };
    socket.answers.typing = { ok: true };
    client.connect();
    await socket.letIn();
    const watch = client.watch('1', ({ viewing, typing }) =>
      changes.push([viewing.map(({ name }) => name), typing.map(({ name }) => name)]),
    );
    await settled();
    await socket.say('presence', { ticket_id: '1', person: ben, expires_in: 60 });
    await socket.say('presence', { ticket_id: '2', person: { id: 'x', name: 'Elsewhere' }, expires_in: 60 });
    await socket.say('typing', { ticket_id: '1', person: ben, expires_in: 6 });
    await socket.say('presence', { ticket_id: '1', person: ann, expires_in: 0 });
    await after(6_000);
    assert.deepEqual(changes, [
      [['Ann'], []],
      [['Ann', 'Ben'], []],
      [['Ann', 'Ben'], ['Ben']],
      [['Ben'], ['Ben']],
      [['Ben'], []],
    ]);
    watch.typing();
    watch.typing();
    await after(3_000);
    watch.typing({ internal: true });
    watch.typing({ active: false });
    assert.deepEqual(
      socket.asked.filter(([name]) => name === 'typing').map(([, { active, is_internal }]) => [active, is_internal]),
      [[true, false], [true, true], [false, false]],
    );
    watch.stop();
    watch.stop();
    await settled();
    assert.deepEqual(socket.asked.slice(-2), [
      ['viewing', { ticket_id: '1', active: false }],
      ['leave', { room: 'ticket:1' }],
    ]);
    await after(600_000);
    assert.equal(socket.asked.at(-1)[0], 'leave');
  });

  test('an event that comes with the answer knows better', async () => {
    const { client, socket } = fake();
    let answer;
    socket.answers.viewing = () => new Promise((resolve) => (answer = resolve));
    client.connect();
    await socket.letIn();
    const watch = client.watch('1');
    await settled();
    const told = [
      socket.say('presence', { ticket_id: '1', person: ben, expires_in: 60 }),
      socket.say('presence', { ticket_id: '1', person: ann, expires_in: 0 }),
    ];
    answer({ ok: true, viewers: [ann] });
    await Promise.all(told);
    await settled();
    assert.deepEqual(watch.people.viewing, [ben]);
    await after(40_000); // asked again: now the answer counts
    answer({ ok: true, viewers: [ann] });
    await settled();
    assert.deepEqual(watch.people.viewing, [ann]);
    watch.stop();
  });

  test('it is said again, and after a reconnection', async () => {
    const { client, socket } = fake();
    socket.answers.viewing = { ok: true, viewers: [ann] };
    client.connect();
    await socket.letIn();
    const watch = client.watch('1');
    await settled();
    const said = () => socket.asked.filter(([name]) => name === 'viewing').length;
    assert.equal(said(), 1);
    await after(40_000);
    assert.equal(said(), 2);
    await socket.lose();
    socket.answers.viewing = { ok: true, viewers: [ben] };
    await socket.letIn();
    assert.equal(said(), 3);
    assert.deepEqual(watch.people.viewing, [ben]);
    watch.stop();
  });
});

test('a mistake in a listener is reported, and the others hear the event', async () => {
  const { client, socket, told } = fake();
  client.on('ticket.update', () => {
    throw new Error('of the page');
  });
  client.connect();
  await socket.letIn();
  await socket.say('ticket.update', { cursor: 20 });
  assert.equal(told.length, 1);
  assert.throws(() => mock.timers.tick(0), /of the page/);
});

test('who listens no more hears no more', async () => {
  const { client, socket } = fake();
  const heard = [];
  const off = client.on('typing', () => heard.push(1));
  client.connect();
  await socket.letIn();
  await socket.say('typing', {});
  off();
  await socket.say('typing', {});
  assert.equal(heard.length, 1);
});
