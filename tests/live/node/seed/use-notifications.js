import { useEffect, useState } from 'react';

function useNotifications() {
  const [notifications, setNotifications] = useState([]);
  const [tickets, setTickets] = useState([]);
  const [comments, setComments] = useState([]);

  useEffect(() => {
    // Set up webhook endpoint in your backend
    fetch('/api/user/webhook', {
      method: 'PUT',
      headers: {
        'Authorization': `Bearer ${token}`,
        'Content-Type': 'application/json'
      },
      body: JSON.stringify({
        webhook_url: `${window.location.origin}/api/webhooks/notifications`
      })
    });
  }, []);

  // Your webhook receiver endpoint
  const handleWebhook = (payload) => {
    const { notification, data } = payload;
    
    // Add to notifications list
    setNotifications(prev => [notification, ...prev]);

    // Update specific items in collections using the data field
    if (data && notification.related_type) {
      switch (notification.related_type) {
        case 'ticket':
          // Update or add ticket in the list
          setTickets(prev => {
            const existingIndex = prev.findIndex(t => t.id === data.id);
            if (existingIndex >= 0) {
              // Update existing ticket
              const updated = [...prev];
              updated[existingIndex] = data;
              return updated;
            } else {
              // Add new ticket
              return [data, ...prev];
            }
          });
          break;
          
        case 'comment':
          // Update or add comment in the list
          setComments(prev => {
            const existingIndex = prev.findIndex(c => c.id === data.id);
            if (existingIndex >= 0) {
              // Update existing comment
              const updated = [...prev];
              updated[existingIndex] = data;
              return updated;
            } else {
              // Add new comment
              return [...prev, data];
            }
          });
          break;
      }
    }

    // Show browser notification
    if (Notification.permission === 'granted') {
      new Notification(notification.message);
    }
  };

  return { notifications, tickets, comments, handleWebhook };
}
