function useRealTimeUpdates() {
  const [socket, setSocket] = useState(null);
  const [isConnected, setIsConnected] = useState(false);
  
  useEffect(() => {
    const newSocket = io('http://localhost:5000');
    
    newSocket.on('connect', () => {
      setIsConnected(true);
      // Join relevant rooms
      newSocket.emit('join', { room: 'tickets' });
      newSocket.emit('join', { room: 'comments' });
    });
    
    newSocket.on('disconnect', () => {
      setIsConnected(false);
    });
    
    // Handle real-time updates
    newSocket.on('notification', (payload) => {
      const { notification, data } = payload;
      // Update UI immediately with data
      updateEntity(notification.related_type, data);
    });
    
    setSocket(newSocket);
    
    return () => {
      newSocket.disconnect();
    };
  }, []);
  
  return { socket, isConnected };
}
