import io from 'socket.io-client';

const socket = io('http://localhost:5000');

// Connection events
socket.on('connect', () => {
  console.log('Connected to real-time server');
});

socket.on('disconnect', () => {
  console.log('Disconnected from server');
});

// Join rooms for targeted updates
socket.emit('join', { room: 'tickets' });
socket.emit('join', { room: 'comments' });
